"""What a device measured of one model: whole networks, each with the times of its launches, and where and when.

A few networks of the model are built and timed there: as it came in, at the dense widths and at random aligned widths
in every format, dense and 2:4. `edgeprune.latency.measured_model` makes a latency model of them. The record is kept in
the user's cache folder after every network, so that what was interrupted goes on where it stood.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from edgeprune.dependency import OpenedModel
from edgeprune.errors import ProfileError, UsageError
from edgeprune.latency.kernel_network import GpuNetwork
from edgeprune.latency.measured_model import MeasuredModel, Sample, fit_measured
from edgeprune.support import cache_folder
from edgeprune.support import json_form as jsonform

SCHEMA = 1
ORIGINAL = "original"
"""The network as it came in, in float32 as the runtime computes it."""


@dataclass(frozen=True, kw_only=True)
class MeasuredNetwork:
    """One network that was built and timed.

    Attributes:
        widths: Group id -> units; groups that are not named are whole.
        format: Of every launch that has it; ``original`` for the model as it came in.
        latency_us: Of an inference.
        runs: How many were timed.
        date: When, ISO 8601.
        launch_us: Leading node of a launch -> microseconds; empty where single kernels were not timed.
    """

    widths: Mapping[str, int]
    format: str
    latency_us: float
    runs: int
    date: str
    launch_us: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """Everything that one device measured of one model.

    Attributes:
        target: Name of the target.
        model: File name of the model, without folders.
        model_sha256: Of that file, hexadecimal.
        shapes: Input name -> dimensions.
        device: The machine in its own words.
        clocks: ``locked``, or why they were not.
        versions: Software -> version there.
        networks: What was measured, in order.
        complete: Whether nothing that was planned is missing.
        ratios: ``<kind of launch> <format>`` -> how many times as long as the analytic model says such launches took.
    """

    schema: int = SCHEMA
    source: Literal["measured"] = "measured"
    target: str
    model: str
    model_sha256: str
    shapes: Mapping[str, tuple[int, ...]]
    device: str
    clocks: str
    versions: Mapping[str, str]
    networks: tuple[MeasuredNetwork, ...] = ()
    complete: bool = False
    ratios: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def power_mode(self) -> str | None:
        """The power mode that the board said it was in, None if it did not say."""
        match = re.search(r"power mode ([^\s;]+)", self.device)
        return match[1] if match else None

    @property
    def baseline_us(self) -> float | None:
        """What the model as it came in takes."""
        return next((n.latency_us for n in self.networks if n.format == ORIGINAL), None)

    def to_json(self) -> str:
        """The text of the file."""
        return jsonform.dumps(self)

    @classmethod
    def load(cls, file: Path) -> DeviceProfile:
        """Read a profile.

        Raises:
            UsageError: it is none.
        """
        return jsonform.load(cls, file, schema=SCHEMA)

    def check(self, opened: OpenedModel, target: str, power_mode: str | None) -> None:
        """Refuse to use the profile for something else.

        Raises:
            ProfileError: it is of another target, model, input size or power mode.
        """
        for what, mine, wanted in (
            ("target", self.target, target),
            ("model", self.model_sha256, opened.sha256),
            ("input sizes", dict(self.shapes), input_shapes(opened)),
            ("power mode", power_mode and self.power_mode, power_mode),
        ):
            if mine is not None and mine != wanted:
                raise ProfileError(f"the measured profile is of another {what}: {mine}, not {wanted}")

    def latency(self, gpu: GpuNetwork) -> MeasuredModel | None:
        """The latency model of a network's launches; None where too little was measured of them.

        Raises:
            ProfileError: it was measured on other launches: by another version of this program, for instance.
        """
        anchors = [b.anchor for b in gpu.network.blocks]
        ids = [g.id for g in gpu.network.analysis.groups]
        samples = []
        for n in self.networks:
            formats = formats_like(gpu, n.format)
            if n.format == ORIGINAL or formats is None or not n.launch_us:
                continue
            if set(n.launch_us) != set(anchors) or not set(n.widths) <= set(ids):
                raise ProfileError(
                    "the measured profile divides the model otherwise than this version does: measure again"
                )
            widths = np.array([n.widths.get(g, size) for g, size in zip(ids, gpu.latency.sizes, strict=True)])
            samples.append(Sample(widths, formats, tuple(n.launch_us[a] for a in anchors), n.latency_us))
        measured = {f for s in samples for f in s.formats}
        floating = {gpu.latency.formats(b)[0] for b in range(len(anchors))}
        return fit_measured(gpu.latency, samples) if floating <= measured else None


def formats_like(gpu: GpuNetwork, fmt: str) -> tuple[str, ...] | None:
    """Every launch in this format, or in the nearest that it has; None if no launch has it."""
    available = gpu.network.int8_nodes
    if not any(fmt in forms for forms in available):
        return None
    dense = fmt.partition("+")[0]
    return tuple(next(f for f in (fmt, dense, next(iter(forms))) if f in forms) for forms in available)


def input_shapes(opened: OpenedModel) -> dict[str, tuple[int, ...]]:
    """Sizes of the inputs that a job works with."""
    return {str(v.name): tuple(int(str(d)) for d in v.shape or ()) for v in opened.fixed.graph.inputs}


def profile_file(opened: OpenedModel, target: str) -> Path:
    """Where the profile of a model on a target is kept."""
    identity = hashlib.sha256(f"{opened.sha256} {sorted(input_shapes(opened).items())}".encode()).hexdigest()
    return cache_folder() / "devices" / f"{target}-{identity[:24]}.json"


def probe_file(target: str) -> Path:
    """Where it is kept what a target measured of the built-in network."""
    return cache_folder() / "devices" / f"{target}-probe.json"


def known_ratios(target: str, power_mode: str | None) -> Mapping[str, float]:
    """What the target measured of the built-in network, as ratios to the analytic model; none if that is not known."""
    try:
        found = DeviceProfile.load(probe_file(target))
    except UsageError:
        return {}
    return found.ratios if power_mode in (None, found.power_mode) else {}


def known_profile(opened: OpenedModel, target: str, power_mode: str | None, file: Path | None) -> DeviceProfile | None:
    """The profile in a file that the user names, or the one that is kept, if it is usable.

    Raises:
        UsageError, ProfileError: the user's file is no profile, or one of something else.
    """
    if file is not None:
        named = DeviceProfile.load(file)
        named.check(opened, target, power_mode)
        return named
    kept = profile_file(opened, target)
    if not kept.is_file():
        return None
    try:
        found = DeviceProfile.load(kept)
        found.check(opened, target, power_mode)
    except (UsageError, ProfileError):
        return None
    return found
