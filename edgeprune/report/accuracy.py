"""The score of a model before and after; a part of report.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeprune.report.output_score import OutputScore


@dataclass(frozen=True)
class Accuracy:
    """The score of the model before and after; higher is better.

    Attributes:
        kind: ``evaluation`` by the user's labels or function, or ``fidelity``: agreement with the original model.
        metric: Such as ``top-1 accuracy``.
        unit: Such as ``%`` or ``dB``.
        before: Of the original model; None if its agreement with itself is infinite (a signal-to-noise ratio).
        after: Of the result.
        drop: What ``--max-drop`` limits, in points; negative if the result is better.
        samples: Number of samples; None for a user's function, which does not report it.
        outputs: Fidelity output by output. For ``fidelity``, the other fields describe the one that loses most.
        interval: In which ``after`` lies on other samples of the same kind, at 95%; None if it is not known.
        drop_interval: In which ``drop`` lies, at 95%.
    """

    kind: Literal["evaluation", "fidelity"]
    metric: str
    unit: str
    before: float | None
    after: float
    drop: float
    samples: int | None = None
    outputs: tuple[OutputScore, ...] = ()
    interval: tuple[float, float] | None = None
    drop_interval: tuple[float, float] | None = None

    @property
    def measure(self) -> str:
        """What was scored: only scores of one measure can be compared."""
        return f"{self.metric} ({self.kind})"
