"""From scores to the accuracy in the report and to the drop that ``--max-drop`` limits."""

from __future__ import annotations

from typing import Literal

from edgeprune.calibration.evaluation import Evaluation, Fidelity, Run
from edgeprune.report import Accuracy


def compare_scores(evaluation: Evaluation, original: Run, result: Run, *, samples: int | None = None) -> Accuracy:
    """Score the result against the original."""
    before = None if isinstance(evaluation, Fidelity) and not evaluation.classifies else evaluation.score(original)
    return accuracy(evaluation, before, evaluation.score(result), samples=samples)


def accuracy(evaluation: Evaluation, before: float | None, after: float, *, samples: int | None = None) -> Accuracy:
    """The accuracy for the report, from two scores of one evaluation.

    Args:
        evaluation: the evaluation that gave the scores.
        before: score of the original; None for SQNR, which has no bound for identical outputs.
        after: score of the result.
        samples: number of samples, if it is known.
    """
    name, _, unit = evaluation.metric.rpartition(" (")
    unit = unit.rstrip(")") if name else ""
    kind: Literal["fidelity", "evaluation"] = "fidelity" if isinstance(evaluation, Fidelity) else "evaluation"
    return Accuracy(kind, name or evaluation.metric, unit, before, after, drop_of(before, after), samples)


def drop_of(before: float | None, after: float) -> float:
    """Points lost; for a signal-to-noise ratio in dB, the noise in percent of the signal's energy."""
    return 100.0 * 10 ** (-after / 10) if before is None else before - after
