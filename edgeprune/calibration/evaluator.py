"""The score that decides: the user's evaluation, or fidelity to the original on data held out from calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.calibration.accuracy import accuracy, drop_of
from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.evaluation import Evaluation, Fidelity, Run, fidelity, open_evaluation
from edgeprune.calibration.identity import digest
from edgeprune.dependency import OpenedModel, file_digest
from edgeprune.report import Accuracy


@dataclass(frozen=True)
class Evaluator:
    """Scores models against the original.

    Attributes:
        evaluation: what gives scores.
        before: the original's score; None where it agrees with itself without bound.
        samples: on how many samples, where that is known.
        identity: a text that differs where scores may; None where that cannot be told, as of a user's function.
    """

    evaluation: Evaluation
    before: float | None
    samples: int | None
    identity: str | None = None

    def drop(self, run: Run) -> float:
        """Points that a model loses against the original."""
        return drop_of(self.before, self.evaluation.score(run))

    def accuracy(self, run: Run) -> Accuracy:
        """What the report says of a model."""
        return accuracy(self.evaluation, self.before, self.evaluation.score(run), samples=self.samples)


def open_evaluator(spec: str | None, opened: OpenedModel, original: Run, held_out: Calibration) -> Evaluator:
    """A judge by the user's evaluation, or by fidelity where there is none.

    Raises:
        EvaluationError: if the evaluation cannot be opened or fails on the original.
    """
    if spec is None:
        chosen = fidelity(original, held_out)
        before = chosen.score(original) if chosen.classifies else None
        return Evaluator(chosen, before, held_out.samples, f"fidelity on {digest(held_out)}")
    evaluation = open_evaluation(spec, opened.dense)
    data = getattr(evaluation, "data", None)
    if not isinstance(data, Calibration):
        return Evaluator(evaluation, evaluation.score(original), None)
    return Evaluator(evaluation, evaluation.score(original), data.samples, file_digest(Path(spec)))


def is_fidelity(evaluator: Evaluator) -> bool:
    """Whether no evaluation of the user's stands behind the scores."""
    return isinstance(evaluator.evaluation, Fidelity)
