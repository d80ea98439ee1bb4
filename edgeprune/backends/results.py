"""Results of a device: latency, kernel times, the provider that ran each node, and versions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from numpy.typing import NDArray

from edgeprune.errors import BackendError
from edgeprune.timing import Energy, Measurement, Memory, median_interval, tail_of


@dataclass(frozen=True)
class LayerTime:
    """One kernel of an engine: its median time in microseconds, its types, and the nodes of the graph in it.

    ``nodes`` is empty if the runtime does not report them; then only the name is known.
    """

    name: str
    median_us: float
    kind: str = ""
    types: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineSample:
    """The latency of one build of a model on one board; ``board`` is empty if there is only one."""

    board: str
    build: int
    latency: Measurement


@dataclass(frozen=True)
class DeviceResult:
    """A model built and measured on a device.

    Attributes:
        latency: Of one inference without data transfers.
        device: The machine in its own words.
        versions: Software -> version there.
        clocks: "locked", or why they were not locked.
        ran_on: Execution provider or runtime -> number of graph nodes that it ran.
        build_seconds: Time to build the engine; 0 if none is built.
        engine: The serialized engine, which only runs on this kind of device.
        layers: Times of single kernels, slowest first, from a separate run.
        conditions: The state of the device meanwhile: power mode, JetPack, clock of the GPU, throttling.
        energy: Of one inference, if the device has power sensors and it was asked for.
        memory: That the engine takes, if TensorRT's log says it.
        samples: Of every build on every board, if there are several; the others of these fields are of the build, and
            the board, of median latency.
    """

    latency: Measurement
    device: str
    versions: Mapping[str, str]
    clocks: str
    ran_on: Mapping[str, int] = field(default_factory=dict)
    build_seconds: float = 0.0
    engine: bytes | None = None
    layers: tuple[LayerTime, ...] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    energy: Energy | None = None
    memory: Memory | None = None
    samples: tuple[EngineSample, ...] = ()


@dataclass(frozen=True)
class EngineRuns:
    """What an engine computed on a device: for every feed the outputs in the model's order, and by which program."""

    outputs: Sequence[Sequence[NDArray[Any]]]
    by: str


def measurement_of(blocks_ms: Sequence[Sequence[float]]) -> Measurement:
    """Summarise runs on a device, in blocks in order of time, as `edgeprune.timing` does; milliseconds.

    Raises:
        BackendError: There is no run, or a time is not a positive number.
    """
    blocks = [block for block in blocks_ms if len(block)]
    runs = sorted(time for block in blocks for time in block)
    if not runs or not all(math.isfinite(time) and time > 0 for time in runs):
        raise BackendError("the device reported no usable times")
    medians = [median(block) for block in blocks]
    interval = median_interval(medians)
    third = max(1, len(medians) // 3)
    return Measurement(
        median_ms=interval.value,
        p95_ms=runs[math.ceil(0.95 * len(runs)) - 1],
        ci_low_ms=interval.low,
        ci_high_ms=interval.high,
        runs=len(runs),
        blocks_ms=tuple(medians),
        drift=median(medians[-third:]) / median(medians[:third]) - 1,
        tail=tail_of(runs),
    )
