"""What one output of a model is, and how it is compared with the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

CLASS_SCORES = "class scores"
SEQUENCE = "sequence"
CLASS_MAP = "class map"
DETECTIONS = "detections"
BOXES = "boxes"
COORDINATES = "coordinates"
EMBEDDING = "embedding"
MAP = "map"
INTEGERS = "integers"
INDICES = "indices"
RANKING = "ranking"
SORTED_SCORES = "sorted scores"
STATE = "state"
VALUES = "values"
TENSOR = "tensor"

ROWS = (DETECTIONS, BOXES, COORDINATES, INTEGERS, INDICES, VALUES, TENSOR)
"""Kinds whose rows may be in the order of a choice inside the network."""

DENSE_KINDS = frozenset({CLASS_MAP, DETECTIONS, BOXES, MAP})
"""Outputs with a value for each of many positions."""

TOP1, COSINE, SQNR, IOU, MATCHES, EQUAL = "top1", "cosine", "sqnr", "iou", "detections", "equal"
METRICS = (TOP1, COSINE, SQNR, IOU, MATCHES, EQUAL)


@dataclass(frozen=True)
class Part:
    """Some channels of an output.

    Attributes:
        name: of the output.
        axis: of the channels: 1 or 2; 0 if there are none, so that every position has one value.
        start, stop: which channels.
    """

    name: str
    axis: int
    start: int = 0
    stop: int = 1


@dataclass(frozen=True)
class Head:
    """How detections are read from the outputs of a detector.

    Attributes:
        boxes: four channels.
        scores: one channel for each class.
        labels: a channel with the number of the class; None if each class has its own score.
        objectness: a channel that every score is multiplied by; None if there is none.
        corners: boxes are x1, y1, x2, y2; otherwise center x, center y, width, height.
        background: the class that means that there is nothing; None if there is none.
        activation: what turns scores into probabilities: an empty text, ``sigmoid`` or ``softmax``.
    """

    boxes: Part
    scores: Part
    labels: Part | None = None
    objectness: Part | None = None
    corners: bool = False
    background: int | None = None
    activation: str = ""


@dataclass(frozen=True)
class OutputSpec:
    """What an output is; several outputs if they are judged together, as boxes and their scores.

    Attributes:
        names: of the outputs.
        kind: what they are, such as ``class scores``.
        metric: one of METRICS.
        why: how this was recognized.
        weight: of each of the outputs in output errors; 0 if they do not count.
        axis: of the classes.
        head: reads detections; None for other kinds.
    """

    names: tuple[str, ...]
    kind: str
    metric: str
    why: str
    weight: float = 1.0
    axis: int = -1
    head: Head | None = None


@dataclass(frozen=True)
class Outputs:
    """All outputs of a model.

    Attributes:
        names: in the order of the graph.
        specs: each output belongs to one of them.
        rows: outputs whose rows are in the order of a choice, the same for all of them.
    """

    names: tuple[str, ...]
    specs: tuple[OutputSpec, ...]
    rows: tuple[str, ...] = ()

    def spec_of(self, name: str) -> OutputSpec:
        """The spec of an output."""
        return next(spec for spec in self.specs if name in spec.names)

    def by_signal(self) -> Outputs:
        """The same outputs, all floats compared by their signal-to-noise ratio: a finer measure than agreement."""
        split = [replace(spec, names=(name,), head=None) for spec in self.specs for name in spec.names]
        return Outputs(self.names, tuple(s if s.metric == EQUAL else replace(s, metric=SQNR) for s in split), self.rows)

    def share_of(self, name: str) -> float:
        """Weight of an output in output errors, as a share of the weights of all."""
        total = sum(spec.weight * len(spec.names) for spec in self.specs)
        return self.spec_of(name).weight / total if total else 1 / max(1, len(self.names))


def select(names: Sequence[str], arrays: Sequence[Array]) -> Mapping[str, Array]:
    """Arrays by output name."""
    return dict(zip(names, arrays, strict=True))
