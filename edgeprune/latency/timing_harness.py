"""The test stand: runs candidates on this machine's CPU against the original, on one fixed input."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import OnnxRuntime, Trace, pace, trace
from edgeprune.calibration import Calibration
from edgeprune.dependency import OpenedModel, Shapes
from edgeprune.support import this_cpu, vector_lanes
from edgeprune.timing import Measurement, benchmark

QUICK_SECONDS = 2.5
FINAL_SECONDS = 10.0
LEAST_BLOCK_S, MOST_BLOCK_S, RUNS_PER_BLOCK = 0.04, 0.15, 6
"""A turn holds so many runs of the original, within these bounds: a machine that changes its speed every second or so
changes it less often between two models when turns are short."""


@dataclass(frozen=True, eq=False)
class TimingHarness:
    """Where models are timed.

    Attributes:
        runtime: the runtime.
        feeds: the one input that everything is timed on.
        original: runs the user's file once on it.
    """

    runtime: OnnxRuntime
    feeds: Mapping[str, NDArray[Any]]
    original: Callable[[], object]

    @property
    def device(self) -> str:
        """The processor that models run on, in words."""
        return self.runtime.device

    @property
    def runtime_version(self) -> str:
        """Name and version of the runtime that they run in."""
        return f"{self.runtime.name} {self.runtime.version}"

    @property
    def threads(self) -> int:
        """Threads that they run on."""
        return self.runtime.threads

    @property
    def features(self) -> tuple[str, ...]:
        """Extensions of the processor that matter to kernels, as Linux spells them."""
        return this_cpu().features

    @property
    def lanes(self) -> int:
        """Channels that blocked convolutions work on at a time there."""
        return vector_lanes(self.features)

    def trace(self, model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
        """Time the blocks of a model there; see `edgeprune.backends.block_trace.trace`."""
        return trace(model, block_of, self.feeds, self.threads, seconds)

    def pace(self) -> float:
        """Seconds that the original takes there just now; see `edgeprune.backends.block_trace.pace`."""
        return pace(self.original, self.threads)

    def quick(self, models: Mapping[str, ir.Model]) -> dict[str, Measurement]:
        """Latency of the original and of all models, measured in turns for a few seconds."""
        return self._measure(models, min_seconds=0.0, max_seconds=QUICK_SECONDS, precision=0.005)

    def final(
        self,
        models: Mapping[str, ir.Model],
        progress: Callable[[float], None] | None = None,
        undecided: Callable[[Mapping[str, Measurement]], bool] | None = None,
    ) -> dict[str, Measurement]:
        """Latency of the original and of all models, measured in turns until the intervals are narrow.

        Args:
            models: by name.
            progress: called with the fraction done.
            undecided: whether a result leaves open what it is for; it is then measured for twice as long.
        """
        return self._measure(models, min_seconds=3.0, max_seconds=FINAL_SECONDS, progress=progress, undecided=undecided)

    def _measure(self, models: Mapping[str, ir.Model], **settings: Any) -> dict[str, Measurement]:
        candidates = {"original": self.original} | {name: self.bind(model) for name, model in models.items()}
        started_s = time.perf_counter()
        self.original()
        run_s = time.perf_counter() - started_s
        block_s = min(max(RUNS_PER_BLOCK * run_s, LEAST_BLOCK_S), MOST_BLOCK_S)
        return benchmark(candidates, block_s=block_s, **settings)

    def bind(self, model: ir.Model) -> Callable[[], object]:
        """A function that runs the model once."""
        return self.runtime.load(model).bind(self.feeds)


def random_harness(opened: OpenedModel, threads: int) -> TimingHarness:
    """A stand for a job of fixed sizes, with a random input."""
    runtime = OnnxRuntime(threads)
    feeds = runtime.load(opened.fixed).random_feeds()
    return TimingHarness(runtime, feeds, runtime.load(opened.path).bind(feeds))


def open_harness(opened: OpenedModel, data: Calibration, shapes: Shapes, threads: int) -> TimingHarness:
    """A stand for a job, with its first calibration sample as input where that has the fixed shape."""
    runtime = OnnxRuntime(threads)
    original = runtime.load(opened.path)
    wanted = {str(v.name): tuple(int(str(d)) for d in v.shape or ()) for v in opened.fixed.graph.inputs}
    sample = next(iter(data.batches(1)))
    real = all(sample[n].shape == s for n, s in wanted.items() if n in sample) and set(wanted) >= set(sample)
    feeds: Mapping[str, NDArray[Any]] = sample if real else original.random_feeds(shapes=wanted)
    fixed = {name: np.ascontiguousarray(x) for name, x in feeds.items()}
    return TimingHarness(runtime, fixed, original.bind(fixed))
