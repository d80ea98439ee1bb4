"""The measured latencies of a report: one run of a compile, and those that repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeprune.support import plural
from edgeprune.timing import Measurement, Ratio


@dataclass(frozen=True)
class Repeat:
    """The original and the result, measured in turns once more; ``speedup`` is from paired blocks."""

    baseline: Measurement
    result: Measurement
    speedup: Ratio


@dataclass(frozen=True)
class Latency:
    """Measured latencies, all models in one run.

    Attributes:
        device: The processor or board, in words.
        runtime: Name and version of the runtime.
        threads: Threads of the runtime; None on devices without this setting.
        baseline: The original model.
        result: The model that was written.
        speedup: Baseline over result, from paired blocks.
        variants: The unpruned alternatives by name, such as ``int8``.
        baseline_runtime: Name and version of the runtime of the original, if it is another one.
        repeats: The original and the result measured again, each time in new processes.
    """

    device: str
    runtime: str
    threads: int | None
    baseline: Measurement
    result: Measurement
    speedup: Ratio
    variants: Mapping[str, Measurement] = field(default_factory=dict)
    baseline_runtime: str | None = None
    repeats: tuple[Repeat, ...] = ()

    @property
    def timed(self) -> dict[str, Measurement]:
        """Name -> measurement of everything that was measured."""
        return {"original": self.baseline, **self.variants, "result": self.result}

    @property
    def place(self) -> str:
        """The device and its threads, in words."""
        return self.device if self.threads is None else f"{self.device} with {plural(self.threads, 'thread')}"

    @property
    def runs(self) -> tuple[Repeat, ...]:
        """All separate measurements of original and result, the first one included."""
        return (Repeat(self.baseline, self.result, self.speedup), *self.repeats)
