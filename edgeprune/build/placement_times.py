"""How a kernel's time in INT8 compares with its time in float, as a device measured it inside engines.

TensorRT decides by itself what it fuses with a Q/DQ pair, so a kernel may be slower in INT8 than in 16 bits. What was
measured holds for every kernel of the same work on the same board with the same software, in any model: it is kept in
the user's cache folder, by the work of the kernel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgeprune.errors import UsageError
from edgeprune.latency import AnalyticModel, MeasuredModel, is_int8, work_of
from edgeprune.support import cache_folder, json_form, write_text

SCHEMA = 1


@dataclass(frozen=True)
class KernelRatio:
    """The time of kernels of one kind in INT8, as a share of their time in float.

    Attributes:
        ratio: below 1 if INT8 is faster.
        kernels: how many of them an engine had.
        gain_us: how much faster the engine was with all of them in INT8, microseconds; negative if it was slower.
        model: in which they were measured, a file name.
    """

    ratio: float
    kernels: int
    gain_us: float
    model: str


@dataclass(frozen=True, kw_only=True)
class PlacementTimes:
    """All ratios that were measured on one kind of board with one set of software.

    Attributes:
        target: name of the target.
        facts: the board, its software and its settings.
        ratios: `signature` of a kernel -> its ratio.
    """

    schema: int = SCHEMA
    target: str
    facts: Mapping[str, str]
    ratios: Mapping[str, KernelRatio] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where they are kept."""
        digest = hashlib.sha256(json.dumps(sorted(self.facts.items())).encode()).hexdigest()[:24]
        return cache_folder() / "devices" / f"{self.target}-{digest}-placement.json"

    def known(self) -> PlacementTimes:
        """The same with the ratios that are kept; those of another version of this program are forgotten."""
        try:
            found = json_form.load(PlacementTimes, self.file, schema=SCHEMA)
        except UsageError:
            return self
        return found if dict(found.facts) == dict(self.facts) else self

    def with_ratio(self, signature: str, ratio: KernelRatio) -> PlacementTimes:
        """The same with one more ratio."""
        return replace(self, ratios={**self.ratios, signature: ratio})

    def keep(self) -> None:
        """Write them.

        Raises:
            UsageError: the cache folder cannot be written.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the cache folder {str(self.file.parent)!r} cannot be written: {error.strerror}"
            ) from error
        write_text(self.file, json_form.dumps(self))


def signature(analytic: AnalyticModel, block: int) -> str:
    """The work of a block's kernel in the dense network, and the float type that it has otherwise."""
    kernel = analytic.kernel(block, analytic.sizes)
    numbers = [f"{part:g}" if isinstance(part, float) else str(part) for part in work_of(kernel)]
    return " ".join([*numbers, analytic.precision(block, analytic.formats(block)[0])])


def tuned(latency: AnalyticModel | MeasuredModel, ratios: Mapping[int, float]) -> MeasuredModel:
    """The latency model with INT8 times as measured, relative to the float times that it had.

    Args:
        latency: of the network.
        ratios: block -> its time in INT8 as a share of that in float, in the dense network.
    """
    if isinstance(latency, AnalyticModel):
        blocks = range(len(latency.clusters))
        heights = {(b, f): np.array([0.0, 0.0, 1.0]) for b in blocks for f in latency.formats(b)}
        plain = replace(latency, correction=1.0, _known={})
        base_us = latency.call_us / latency.correction
        latency = MeasuredModel(plain, heights, base_us, latency.error, latency.correction)
    sizes, heights = latency.sizes, dict(latency.heights)
    for block, ratio in ratios.items():
        formats = latency.formats(block)
        int8 = next((f for f in formats if is_int8(f)), None)
        if int8 is None:
            continue
        factor = ratio * latency.block_us(block, formats[0], sizes) / latency.block_us(block, int8, sizes)
        heights |= {(block, f): factor * heights[block, f] for f in formats if is_int8(f)}
    return replace(latency, heights=heights)
