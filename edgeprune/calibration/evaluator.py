"""The accuracy of models: the user's evaluation, or fidelity to the original on data held out from calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration.accuracy import accuracy, compare_with_original
from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.evaluation import Evaluation, Top1, open_evaluation
from edgeprune.calibration.fidelity import Fidelity, fidelity
from edgeprune.calibration.identity import digest
from edgeprune.calibration.run import Run
from edgeprune.dependency import OpenedModel, file_digest
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
        hits: for every label whether the original is right, if there are labels.
    """

    evaluation: Evaluation | Fidelity
    before: float | None
    samples: int | None
    identity: str | None = None
    beside: Fidelity | None = None
    hits: NDArray[np.bool_] | None = None

    def drop(self, run: Run) -> float:
        """The drop in points against the original; of the output that loses most."""
        if isinstance(self.evaluation, Fidelity):
            return worst(self.evaluation.compare(run)).drop
        return self.accuracy(run).drop

    def accuracy(self, run: Run) -> Accuracy:
        """A model's accuracy for the report."""
        if isinstance(self.evaluation, Fidelity):
            return compare_with_original(self.evaluation, run)
        assert self.before is not None  # every evaluation has scored the original
        if isinstance(self.evaluation, Top1) and self.hits is not None and self.labels_are_samples:
            hits = self.evaluation.hits(run)
            score, both = 100.0 * float(hits.mean()), (self.hits.tolist(), hits.tolist())
            return accuracy(self.evaluation, self.before, score, samples=self.samples, hits=both)
        return accuracy(self.evaluation, self.before, self.evaluation.score(run), samples=self.samples)

    def with_outputs(self, scored: Accuracy, run: Run) -> Accuracy:
        """The accuracy of a model with the agreement of each of its outputs."""
        return scored if self.beside is None else replace(scored, outputs=self.beside.compare(run))

    @property
    def agreement(self) -> Fidelity:
        """Fidelity to the original, whatever the user's evaluation is."""
        found = self.evaluation if isinstance(self.evaluation, Fidelity) else self.beside
        assert found is not None  # `open_evaluator` gives one of the two
        return found

    @property
    def labels_are_samples(self) -> bool:
        """Whether there is one label for each sample; labels of one image, such as pixels, depend on each other."""
        return self.hits is not None and len(self.hits) == self.samples


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
    if isinstance(evaluation, Top1):
        hits = evaluation.hits(original)
        before = 100.0 * float(hits.mean())
        return Evaluator(evaluation, before, evaluation.data.samples, file_digest(Path(spec)), agreement, hits)
    return Evaluator(evaluation, evaluation.score(original), None, beside=agreement)


def is_fidelity(evaluator: Evaluator) -> bool:
    """Whether the scores are fidelity to the original, not the user's evaluation."""
    return isinstance(evaluator.evaluation, Fidelity)
