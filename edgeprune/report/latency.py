"""The measured latencies of a report: one run of a compile, and those that repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edgeprune.support import plural
from edgeprune.timing import Measurement, Ratio, ratio


@dataclass(frozen=True)
class Repeat:
    """The original and the result, measured in turns once more; ``speedup`` is from paired blocks.

    Attributes:
        board: Address of the board, if there are several.
        build: Number of the build, from 0 on, if the engines were built several times.
        part: Place among the boards and builds that were measured at once; 0 for the first.
    """

    baseline: Measurement
    result: Measurement
    speedup: Ratio
    board: str = ""
    build: int = 0
    part: int = 0


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
        samples: The same of every build on every board, if there are several: ``baseline`` and ``result`` are of those
            of median latency.
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
    samples: tuple[Repeat, ...] = ()

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
        """All separate measurements of original and result, the first one included, of all builds and boards."""
        return (*(self.samples or (Repeat(self.baseline, self.result, self.speedup),)), *self.repeats)

    @property
    def times_measured(self) -> int:
        """How often they were measured; all builds and boards of one time count once."""
        return 1 + sum(repeat.part == 0 for repeat in self.repeats)

    @property
    def builds(self) -> int:
        """How many engines of the result were built and timed on each board."""
        return 1 + max(run.build for run in self.runs)

    @property
    def boards(self) -> tuple[str, ...]:
        """Addresses of the boards, if there are several."""
        return tuple(dict.fromkeys(run.board for run in self.runs if run.board))

    @property
    def spread_ms(self) -> tuple[float, float]:
        """The least and the largest median of the result, among its builds and boards and all times."""
        found = [run.result.median_ms for run in self.runs]
        return min(found), max(found)


def repeats_of(pairs: Iterable[tuple[str, int, Measurement, Measurement]]) -> tuple[Repeat, ...]:
    """Measurements of original and result by board and number of the build, all from one time."""
    return tuple(
        Repeat(one, other, ratio(one, other), board, build, part)
        for part, (board, build, one, other) in enumerate(pairs)
    )
