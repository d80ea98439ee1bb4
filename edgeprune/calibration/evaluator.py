"""The accuracy of models: the user's evaluation, or fidelity to the original on data held out from calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from edgeprune.calibration.accuracy import accuracy, compare_with_original
from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.evaluation import Evaluation, Top1, open_evaluation
from edgeprune.calibration.fidelity import Fidelity, fidelity
from edgeprune.calibration.identity import digest
from edgeprune.calibration.run import Run
from edgeprune.calibration.sample_scores import Score
from edgeprune.dependency import OpenedModel, file_digest
from edgeprune.errors import EvaluationError
from edgeprune.outputs import worst
from edgeprune.report import Accuracy


@dataclass(frozen=True)
class Evaluator:
    """Scores models against the original.

    Attributes:
        evaluation: the metric with its data.
        before: the original's score; None for fidelity.
        samples: number of samples, if it is known.
        identity: a text that differs if scores may differ; None if that is not known, as for a user's function.
        beside: fidelity to the original, which is listed output by output beside the user's score.
    """

    evaluation: Evaluation | Fidelity
    before: Score | None
    samples: int | None
    identity: str | None = None
    beside: Fidelity | None = None

    def check_scale(self, max_drop: float | None) -> None:
        """Refuse a limit that no result can miss, as points of percent for a score from 0 to 1.

        Raises:
            EvaluationError: the limit permits the loss of the whole score.
        """
        if max_drop is not None and self.before is not None and 0 < self.before.value <= max_drop:
            raise EvaluationError(
                f"the original scores {self.before.value:.3g} by --eval, so --max-drop {max_drop:g} permits the loss "
                "of all of it: let the evaluation return percent, or give a smaller --max-drop"
            )

    def drop(self, run: Run) -> float:
        """The drop in points against the original; of the output that loses most."""
        if isinstance(self.evaluation, Fidelity):
            return worst(self.evaluation.compare(run)).drop
        return self.accuracy(run).drop

    def accuracy(self, run: Run, limit: float = math.inf) -> Accuracy:
        """A model's accuracy for the report; on fewer samples where these show that it loses more than ``limit``."""
        if isinstance(self.evaluation, Fidelity):
            return compare_with_original(self.evaluation, run, limit)
        assert self.before is not None  # every evaluation has scored the original
        return accuracy(self.evaluation, self.before, self.evaluation.score(run))

    def with_outputs(self, scored: Accuracy, run: Run) -> Accuracy:
        """The accuracy of a model with the agreement of each of its outputs."""
        return scored if self.beside is None else replace(scored, outputs=self.beside.compare(run))

    @property
    def agreement(self) -> Fidelity:
        """Fidelity to the original, whatever the user's evaluation is."""
        found = self.evaluation if isinstance(self.evaluation, Fidelity) else self.beside
        assert found is not None  # `open_evaluator` gives one of the two
        return found


def open_evaluator(spec: str | None, opened: OpenedModel, original: Run, held_out: Calibration) -> Evaluator:
    """An evaluator with the user's evaluation, or with fidelity if there is none.

    Raises:
        EvaluationError: the evaluation cannot be opened, or it fails on the original.
    """
    agreement = fidelity(original, held_out, opened.dense)
    if spec is None:
        identity = f"fidelity on {digest(held_out)} of {agreement.outputs}"
        return Evaluator(agreement, None, held_out.samples, identity)
    evaluation = open_evaluation(spec, opened.dense)
    before = evaluation.score(original)
    known = file_digest(Path(spec)) if isinstance(evaluation, Top1) else None
    return Evaluator(evaluation, before, before.samples, known, agreement)


def is_fidelity(evaluator: Evaluator) -> bool:
    """Whether the scores are fidelity to the original, not the user's evaluation."""
    return isinstance(evaluator.evaluation, Fidelity)
