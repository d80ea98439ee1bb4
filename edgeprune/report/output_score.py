"""How well each output of a result agrees with the original's; a part of `edgeprune.report.model.Accuracy`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputScore:
    """Agreement of one output, or of several that are judged together, with the original's.

    Attributes:
        names: of the outputs.
        kind: what they are, such as ``class scores`` or ``detections``.
        metric: such as ``top-1 agreement``.
        unit: ``%`` or ``dB``.
        before: agreement of the original with itself; None if it is infinite (a signal-to-noise ratio).
        after: agreement of the result with the original.
        drop: points lost.
        weight: weight of the outputs in output errors; 0 if they are shown, but do not count.
        why: how the kind was recognized, or who chose the metric.
        interval: in which ``after`` lies on other samples of the same kind, at 95%; None if it is not known.
    """

    names: tuple[str, ...]
    kind: str
    metric: str
    unit: str
    before: float | None
    after: float
    drop: float
    weight: float = 1.0
    why: str = ""
    interval: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """The names in one text."""
        return ", ".join(self.names)

    @property
    def counts(self) -> bool:
        """Whether the drop of these outputs counts."""
        return self.weight > 0
