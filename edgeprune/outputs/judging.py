"""Compare the outputs of two models, each output as what it is.

Every comparison gives a drop in *points*:

* percent (classes, detections, overlap, cosine similarity, equality): 100 minus the percentage;
* dB: the noise in percent of the signal's energy, so 20 dB are 1 point.

Where neither model finds anything (no detections, an empty mask, only the background), agreement says nothing. Then the
values themselves are compared by their signal-to-noise ratio, and the metric says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from edgeprune.outputs.class_agreement import ClassAgreement
from edgeprune.outputs.cosine import Cosine
from edgeprune.outputs.detection_matching import DetectionAgreement
from edgeprune.outputs.output_spec import (
    BOXES,
    CLASS_MAP,
    CLASS_SCORES,
    COORDINATES,
    COSINE,
    EQUAL,
    IOU,
    MATCHES,
    SEQUENCE,
    SQNR,
    TOP1,
    VALUES,
    Array,
    Outputs,
    OutputSpec,
    select,
)
from edgeprune.outputs.overlap import Equality, overlap_judge
from edgeprune.outputs.row_matching import matched_rows
from edgeprune.outputs.signal_noise import CEILING_DB, CentredSignalNoise, SignalNoise
from edgeprune.report import OutputScore

PLACED = (BOXES, COORDINATES, VALUES)
"""Kinds of values that have a place of their own, which is not part of the signal."""

MOST_POINTS = 1000.0
"""More noise than ten times the signal is no worse."""

_TOP1_NAMES = {CLASS_SCORES: "top-1 agreement", SEQUENCE: "agreement by step", CLASS_MAP: "pixel agreement"}
_NAMES = {
    TOP1: "top-1 agreement",
    COSINE: "cosine similarity",
    SQNR: "SQNR",
    IOU: "intersection over union",
    MATCHES: "F1 of detections",
    EQUAL: "equality",
}


_NOTHING = {
    MATCHES: "no detections in either",
    IOU: "nothing above the edge of the mask in either",
    TOP1: "nothing but the most frequent class in both",
    EQUAL: "nothing but the most frequent class in both",
}
"""Metric -> what it means that there is nothing to compare."""


class _Judge(Protocol):
    def add(self, wanted: Array, got: Array) -> None: ...

    def score(self) -> float: ...


class Comparison:
    """Compares the outputs of a model with the original's, batch by batch.

    Args:
        outputs: what the outputs are; their arrays come in the order of their names.
    """

    def __init__(self, outputs: Outputs):
        self._names, self._specs, self._rows = outputs.names, outputs.specs, outputs.rows
        self._judges = [_judge(spec) for spec in outputs.specs]
        self._signals: list[list[SignalNoise]] = [[SignalNoise() for _ in spec.names] for spec in outputs.specs]
        self._broken: set[int] = set()

    def add(self, wanted: Sequence[Array], got: Sequence[Array]) -> None:
        """Compare the outputs of one batch. An output whose size has changed agrees in nothing."""
        one, other = select(self._names, wanted), select(self._names, got)
        if self._rows:
            one, other = matched_rows(self._rows, one, other)
        for number, (spec, judge) in enumerate(zip(self._specs, self._judges, strict=True)):
            if isinstance(judge, DetectionAgreement):
                judge.add_all(one, other)
                self._add_signals(number, one, other)
                continue
            name = spec.names[0]
            if one[name].shape != other[name].shape and not isinstance(judge, Equality):
                self._broken.add(number)
            elif number not in self._broken and one[name].size:
                judge.add(one[name], other[name])
                self._add_signals(number, one, other)

    def _add_signals(self, number: int, wanted: Mapping[str, Array], got: Mapping[str, Array]) -> None:
        """Compare the values themselves for as long as nothing was found in them."""
        if _is_blind(self._judges[number]):
            for name, signal in zip(self._specs[number].names, self._signals[number], strict=True):
                if wanted[name].dtype.kind == "f" and wanted[name].shape == got[name].shape:
                    signal.add(wanted[name], got[name])

    def scores(self) -> tuple[OutputScore, ...]:
        """The score of each spec, in their order."""
        found = []
        for number, (spec, judge) in enumerate(zip(self._specs, self._judges, strict=True)):
            unit, metric = unit_of(spec.metric), metric_name(spec)
            after = (-CEILING_DB if unit == "dB" else 0.0) if number in self._broken else judge.score()
            if number not in self._broken and _is_blind(judge):
                metric, signals = f"{metric} ({_NOTHING[spec.metric]})", [s for s in self._signals[number] if s.any]
                if signals:
                    unit, after = "dB", min(signal.score() for signal in signals)
                    metric = f"{_NAMES[SQNR]} ({_NOTHING[spec.metric]})"
            before = None if unit == "dB" else 100.0
            found.append(
                OutputScore(
                    spec.names,
                    spec.kind,
                    metric,
                    unit,
                    before,
                    after,
                    points(unit, after),
                    spec.weight,
                    spec.why,
                )
            )
        return tuple(found)


def points(unit: str, score: float) -> float:
    """Points lost at an agreement in ``%`` or ``dB``; at most MOST_POINTS."""
    return min(100.0 * 10 ** (-score / 10) if unit == "dB" else 100.0 - score, MOST_POINTS)


def unit_of(metric: str) -> str:
    """The unit of a metric's score."""
    return "dB" if metric == SQNR else "%"


def metric_name(spec: OutputSpec) -> str:
    """The metric of an output in words."""
    if spec.metric == TOP1 or (spec.metric == EQUAL and spec.kind in _TOP1_NAMES):
        return _TOP1_NAMES.get(spec.kind, _NAMES[TOP1])
    if spec.metric == SQNR and _is_centred(spec):
        return "SQNR about the mean"
    return _NAMES[spec.metric]


def worst(scores: Sequence[OutputScore]) -> OutputScore:
    """The output that loses most; among those that count, if any does."""
    counted = [score for score in scores if score.counts] or list(scores)
    return max(counted, key=lambda score: score.drop)


def _is_blind(judge: _Judge | DetectionAgreement) -> bool:
    return bool(getattr(judge, "is_blind", False))


def _is_centred(spec: OutputSpec) -> bool:
    return spec.kind in PLACED


def _judge(spec: OutputSpec) -> _Judge | DetectionAgreement:
    if spec.metric == SQNR:
        return CentredSignalNoise() if _is_centred(spec) else SignalNoise()
    made: dict[str, Callable[[OutputSpec], _Judge | DetectionAgreement]] = {
        TOP1: ClassAgreement,
        COSINE: lambda _: Cosine(),
        IOU: overlap_judge,
        MATCHES: DetectionAgreement,
        EQUAL: Equality,
    }
    return made[spec.metric](spec)
