"""The timing harness: times candidates against the original on this machine's CPU, on one fixed input."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import CpuRuntime, OnnxRuntime, Trace, open_runtime, pace, tracer_of
from edgeprune.calibration import Calibration
from edgeprune.dependency import OpenedModel, Shapes
from edgeprune.support import this_cpu, vector_lanes
from edgeprune.timing import Measurement, benchmark, turn_s

QUICK_SECONDS = 2.5
LEAST_FINAL_SECONDS, FINAL_SECONDS = 3.0, 10.0


@dataclass(frozen=True, eq=False)
class TimingHarness:
    """Times models on one machine.

    Attributes:
        runtime: runs the candidates.
        feeds: the input on which all models are timed.
        original: runs the user's model once on it, in onnxruntime: the baseline is the same for all runtimes.
    """

    runtime: CpuRuntime
    feeds: Mapping[str, NDArray[Any]]
    original: Callable[[], object]
    _bound: WeakKeyDictionary[ir.Model, Callable[[], object]] = field(
        init=False, default_factory=WeakKeyDictionary, repr=False
    )

    @property
    def device(self) -> str:
        """Description of the processor on which models run."""
        return self.runtime.device

    @property
    def runtime_version(self) -> str:
        """Name and version of the runtime."""
        return f"{self.runtime.name} {self.runtime.version}"

    @property
    def baseline_version(self) -> str | None:
        """Name and version of the runtime of the original, if it is another one."""
        if self.runtime.name == OnnxRuntime.name:
            return None
        return f"{OnnxRuntime.name} {OnnxRuntime(self.threads).version}"

    @property
    def threads(self) -> int:
        """Threads of the runtime."""
        return self.runtime.threads

    @property
    def features(self) -> tuple[str, ...]:
        """Instruction set extensions of the processor that kernels use, as Linux spells them."""
        return this_cpu().features

    @property
    def lanes(self) -> int:
        """Channels that convolutions compute at a time on this processor."""
        return vector_lanes(self.features)

    def trace(self, model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
        """Time the blocks of a model; see `edgeprune.backends.block_trace.trace`."""
        return tracer_of(self.runtime.name, self.feeds, self.threads)(model, block_of, seconds)

    def pace(self) -> float:
        """Current latency of the original, seconds; see `edgeprune.backends.block_trace.pace`."""
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
            undecided: whether a result is too uncertain for its purpose; the measurement is then twice as long.
        """
        seconds = {"min_seconds": LEAST_FINAL_SECONDS, "max_seconds": FINAL_SECONDS}
        return self._measure(models, **seconds, progress=progress, undecided=undecided)

    def _measure(self, models: Mapping[str, ir.Model], **settings: Any) -> dict[str, Measurement]:
        candidates = {"original": self.original} | {name: self.bind(model) for name, model in models.items()}
        started_s = time.perf_counter()
        self.original()
        run_s = time.perf_counter() - started_s
        return benchmark(candidates, block_s=turn_s(run_s), **settings)

    def bind(self, model: ir.Model) -> Callable[[], object]:
        """A function that runs the model once. It is made once for a model, as long as that is used elsewhere."""
        # The models beside a candidate are the same in all its measurements: OpenVINO compiles each for a second.
        if model not in self._bound:
            self._bound[model] = self.runtime.load(model).bind(self.feeds)
        return self._bound[model]


def input_shapes(opened: OpenedModel) -> dict[str, tuple[int, ...]]:
    """Input name -> fixed shape of an opened model."""
    return {str(v.name): tuple(int(str(d)) for d in v.shape or ()) for v in opened.fixed.graph.inputs}


def open_harness(
    opened: OpenedModel, data: Calibration | None, shapes: Shapes, threads: int, runtime: str = OnnxRuntime.name
) -> TimingHarness:
    """A timing harness for an opened model, on the first sample, or on random input if there is none of fixed shape.

    Raises:
        BackendError: the runtime is not installed.
    """
    original = OnnxRuntime(threads).load(opened.timed)
    wanted = input_shapes(opened)
    sample = {} if data is None else next(iter(data.batches(1)))
    real = all(sample[n].shape == s for n, s in wanted.items() if n in sample) and set(wanted) >= set(sample)
    feeds: Mapping[str, NDArray[Any]] = sample if sample and real else original.random_feeds(shapes=wanted)
    fixed = {name: np.ascontiguousarray(x) for name, x in feeds.items()}
    return TimingHarness(open_runtime(runtime, threads), fixed, original.bind(fixed))
