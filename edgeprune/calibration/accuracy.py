"""From scores to the accuracy in the report and to the drop that ``--max-drop`` limits."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.calibration.evaluation import Evaluation
from edgeprune.calibration.fidelity import Fidelity
from edgeprune.calibration.run import Run
from edgeprune.outputs import worst
from edgeprune.report import Accuracy, OutputScore


def compare_with_original(fidelity: Fidelity, result: Run) -> Accuracy:
    """The fidelity of a result to the original."""
    return accuracy_of_outputs(fidelity.compare(result), samples=fidelity.held_out.samples)


def accuracy_of_outputs(scores: Sequence[OutputScore], *, samples: int | None = None) -> Accuracy:
    """The accuracy for the report from the scores of all outputs: that of the output which loses most, and all."""
    main = worst(scores)
    metric = f"{main.metric}{_with_the_original(main)}"
    return Accuracy("fidelity", metric, main.unit, main.before, main.after, main.drop, samples, tuple(scores))


def accuracy(evaluation: Evaluation, before: float, after: float, *, samples: int | None = None) -> Accuracy:
    """The accuracy for the report, from two scores of one evaluation.

    Args:
        evaluation: the evaluation that gave the scores.
        before: score of the original.
        after: score of the result.
        samples: number of samples, if it is known.
    """
    name, _, unit = evaluation.metric.rpartition(" (")
    unit = unit.rstrip(")") if name else ""
    return Accuracy("evaluation", name or evaluation.metric, unit, before, after, before - after, samples)


def _with_the_original(score: OutputScore) -> str:
    return " against the original" if score.unit == "dB" else " with the original"
