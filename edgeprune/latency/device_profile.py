"""The device profile of one model: whole networks that were measured there, with the latencies of their kernels.

A few networks of the model are built and timed on the device: the original, and the network at dense and random aligned
widths in every format, dense and 2:4. `edgeprune.latency.measured_model` fits a latency model to them. The profile is
saved in the user's cache folder after every network, so that an interrupted run continues where it stopped.
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
from edgeprune.latency.timing_harness import input_shapes
from edgeprune.support import cache_folder, json_form

SCHEMA = 1
ORIGINAL = "original"
"""The user's model in float32, as the runtime computes it."""


@dataclass(frozen=True, kw_only=True)
class MeasuredNetwork:
    """One network that was built and timed.

    Attributes:
        widths: group id -> units; groups that are not named are whole.
        format: format of every block that has it; ``original`` for the user's model.
        latency_us: latency of an inference.
        runs: number of timed inferences.
        date: when it was measured, ISO 8601.
        launch_us: leading node of a block -> microseconds; empty if single kernels were not timed.
    """

    widths: Mapping[str, int]
    format: str
    latency_us: float
    runs: int
    date: str
    launch_us: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """All measurements of one model on one device.

    Attributes:
        target: name of the target.
        model: file name of the model, without folders.
        model_sha256: SHA-256 of that file, hexadecimal.
        shapes: input name -> dimensions.
        device: the machine's description of itself.
        clocks: ``locked``, or why they were not.
        versions: software -> its version on the device.
        networks: the measured networks, in order.
        complete: whether all planned networks were measured.
        ratios: ``<kind of kernel> <format>`` -> measured latency divided by the analytic latency.
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
        """The power mode that the board reported; None if it reported none."""
        match = re.search(r"power mode ([^\s;]+)", self.device)
        return match[1] if match else None

    @property
    def baseline_us(self) -> float | None:
        """Latency of the user's model."""
        return next((n.latency_us for n in self.networks if n.format == ORIGINAL), None)

    def to_json(self) -> str:
        """The text of the file."""
        return json_form.dumps(self)

    @classmethod
    def load(cls, file: Path) -> DeviceProfile:
        """Read a profile.

        Raises:
            UsageError: the file is no device profile.
        """
        return json_form.load(cls, file, schema=SCHEMA)

    def check(self, opened: OpenedModel, target: str, power_mode: str | None) -> None:
        """Check that the profile fits.

        Raises:
            ProfileError: it is a profile of another target, model, input size or power mode.
        """
        for what, mine, wanted in (
            ("target", self.target, target),
            ("model", self.model_sha256, opened.sha256),
            ("input sizes", dict(self.shapes), input_shapes(opened)),
            ("power mode", power_mode and self.power_mode, power_mode),
        ):
            if mine is not None and mine != wanted:
                raise ProfileError(f"the measured profile belongs to another {what}: {mine}, not {wanted}")

    def latency(self, gpu: GpuNetwork) -> MeasuredModel | None:
        """The latency model of a network; None if too few of its formats were measured.

        Raises:
            ProfileError: other kernels were measured, for example by another version of this program.
        """
        anchors = [b.anchor for b in gpu.network.blocks]
        ids = [g.id for g in gpu.network.analysis.groups]
        samples = []
        for n in self.networks:
            formats = formats_like(gpu, n.format)
            if n.format == ORIGINAL or formats is None or not n.launch_us:
                continue
            if set(n.launch_us) != set(anchors) or not set(n.widths) <= set(ids):
                raise ProfileError("the measured profile has other kernels than this version finds: measure again")
            widths = np.array([n.widths.get(g, size) for g, size in zip(ids, gpu.latency.sizes, strict=True)])
            samples.append(Sample(widths, formats, tuple(n.launch_us[a] for a in anchors), n.latency_us))
        measured = {f for s in samples for f in s.formats}
        floating = {gpu.latency.formats(b)[0] for b in range(len(anchors))}
        return fit_measured(gpu.latency, samples) if floating <= measured else None


def formats_like(gpu: GpuNetwork, fmt: str) -> tuple[str, ...] | None:
    """Every block in this format, or in the nearest format that it has; None if no block has it."""
    available = gpu.network.int8_nodes
    if not any(fmt in forms for forms in available):
        return None
    dense = fmt.partition("+")[0]
    return tuple(next(f for f in (fmt, dense, next(iter(forms))) if f in forms) for forms in available)


def profile_file(opened: OpenedModel, target: str) -> Path:
    """The file in which the profile of a model on a target is kept."""
    identity = hashlib.sha256(f"{opened.sha256} {sorted(input_shapes(opened).items())}".encode()).hexdigest()
    return cache_folder() / "devices" / f"{target}-{identity[:24]}.json"


def probe_file(target: str) -> Path:
    """The file in which the profile of the built-in network on a target is kept."""
    return cache_folder() / "devices" / f"{target}-probe.json"


def known_ratios(target: str, power_mode: str | None) -> Mapping[str, float]:
    """Ratios of the target's measurements of the built-in network to the analytic model; empty if there are none."""
    try:
        found = DeviceProfile.load(probe_file(target))
    except UsageError:
        return {}
    return found.ratios if power_mode in (None, found.power_mode) else {}


def known_profile(opened: OpenedModel, target: str, power_mode: str | None, file: Path | None) -> DeviceProfile | None:
    """The profile in a file that the user names, or the kept one if it fits.

    Raises:
        UsageError: the user's file is no device profile.
        ProfileError: the user's file belongs to another target, model, input size or power mode.
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
