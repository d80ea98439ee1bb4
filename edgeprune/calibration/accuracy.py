"""From scores to what the report says of accuracy, and to what ``--max-drop`` limits."""

from __future__ import annotations

from typing import Literal

from edgeprune.calibration.evaluation import Evaluation, Fidelity, Run
from edgeprune.report import Accuracy


def compare_scores(evaluation: Evaluation, original: Run, result: Run, *, samples: int | None = None) -> Accuracy:
    """Score the result against the original."""
    before = None if isinstance(evaluation, Fidelity) and not evaluation.classifies else evaluation.score(original)
    return accuracy(evaluation, before, evaluation.score(result), samples=samples)


def accuracy(evaluation: Evaluation, before: float | None, after: float, *, samples: int | None = None) -> Accuracy:
    """What two scores of one evaluation mean.

    Args:
        evaluation: what gave the scores.
        before: of the original; None where it agrees with itself without bound.
        after: of the result.
        samples: on how many samples, where that is known.
    """
    name, _, unit = evaluation.metric.rpartition(" (")
    unit = unit.rstrip(")") if name else ""
    kind: Literal["fidelity", "evaluation"] = "fidelity" if isinstance(evaluation, Fidelity) else "evaluation"
    return Accuracy(kind, name or evaluation.metric, unit, before, after, drop_of(before, after), samples)


def drop_of(before: float | None, after: float) -> float:
    """Points lost; of a signal-to-noise ratio in dB, the noise in percent of the signal's energy."""
    return 100.0 * 10 ** (-after / 10) if before is None else before - after
