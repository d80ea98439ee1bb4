"""The curve of speed against accuracy that ``compile --pareto`` writes; the dataclasses are pareto.json's format.

The folder of a curve has ``pareto.json``, ``report.html`` and one folder for every point that was reached, as a compile
for that speed-up alone writes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.report.accuracy import Accuracy
from edgeprune.report.figures import doubts
from edgeprune.report.model import ModelFile, Report
from edgeprune.report.rival import Rival, wins_first
from edgeprune.support import json_form
from edgeprune.timing import Ratio

SCHEMA = 1
PARETO_FILE = "pareto.json"


@dataclass(frozen=True)
class Point:
    """One speed-up that was asked for; if it was not reached, all but the first three fields are None.

    Attributes:
        asked: speed-up over the original.
        met: whether a network of this speed was found, and measured where a device is attached.
        reason: the result, or why there is none, in one sentence.
        folder: folder of this point, relative to the file.
        plan: its plan.json, relative to the file.
        variant: what its model.onnx is: ``compressed``, ``unpruned-int8``, ...
        latency_ms: measured median.
        speedup: over the original, measured in the same run.
        accuracy: before and after.
        predicted_ms: latency that was predicted before the measurement.
        file_bytes: size of its model.onnx.
        pays: as in the point's report: at least 1.02 times as fast as the best network without pruning.
        below_floor: as in the point's report: why it lost too much to be of use.
    """

    asked: float
    met: bool
    reason: str
    folder: str | None = None
    plan: str | None = None
    variant: str | None = None
    latency_ms: float | None = None
    speedup: Ratio | None = None
    accuracy: Accuracy | None = None
    predicted_ms: float | None = None
    file_bytes: int | None = None
    pays: bool | None = None
    below_floor: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Curve:
    """All points by speed-up, and what they have in common."""

    schema: int = SCHEMA
    target: str
    model: ModelFile
    device: str
    runtime: str
    threads: int | None
    seed: int
    calibration: str | None
    points: tuple[Point, ...]
    rival: Rival | None = None

    def to_json(self) -> str:
        """The text of pareto.json."""
        return json_form.dumps(self)

    def lines(self) -> list[str]:
        """The curve for people, one line for each point; then the rival against each point."""
        return [*(_line(point) for point in self.points), *self.verdicts()]

    def verdicts(self) -> list[str]:
        """The rival against every point that was reached, in sentences; first those against which it wins."""
        if self.rival is None:
            return []
        timed = ((p, p.predicted_ms if p.latency_ms is None else p.latency_ms) for p in self.points)
        return wins_first((self.rival, ms, p.accuracy, f"the point {p.asked:g}x") for p, ms in timed if ms is not None)

    @classmethod
    def load(cls, path: str | Path) -> Curve:
        """Read a pareto.json, or the one in this folder.

        Raises:
            UsageError: the file is missing or not of this form.
        """
        path = Path(path)
        file = path / PARETO_FILE if path.is_dir() else path
        return json_form.load(cls, file, schema=SCHEMA)


def _line(point: Point) -> str:
    if point.latency_ms is not None and point.speedup is not None:
        text = f"{point.asked:g}x: {point.speedup.value:.2f}x, {point.latency_ms:.3f} ms"
    elif point.predicted_ms is not None:
        text = f"{point.asked:g}x: {point.predicted_ms:.3f} ms predicted"
    else:
        return f"{point.asked:g}x: {point.reason}"
    if point.accuracy is not None:
        text += f", {point.accuracy.metric} {point.accuracy.after:.2f} {point.accuracy.unit}"
    return f"{text} ({', '.join([str(point.variant), *doubts(point)])})"


def point_of(asked: float, folder: str, report: Report) -> Point:
    """The point that a compile's report describes."""
    latency, predicted = report.latency, report.predicted
    return Point(
        asked,
        report.budget.met is not False,
        report.outcome.reason,
        folder,
        f"{folder}/plan.json",
        report.outcome.variant,
        latency.result.median_ms if latency else None,
        latency.speedup if latency else None,
        report.accuracy,
        predicted.result_ms if predicted else None,
        report.sizes.result.file_bytes,
        report.outcome.pays,
        report.outcome.below_floor,
    )


def folder_of(asked: float) -> str:
    """Name of a point's folder: ``1.5x``."""
    return f"{asked:g}x"
