"""From scores to the accuracy in the report and to the drop that ``--max-drop`` limits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeprune.calibration.evaluation import Evaluation
from edgeprune.calibration.fidelity import Fidelity
from edgeprune.calibration.run import Run
from edgeprune.calibration.sample_scores import Score
from edgeprune.outputs import points, samples_for_a_point, worst
from edgeprune.report import Accuracy, OutputScore
from edgeprune.support import plural

WORTH_SAYING_POINTS = 1.0
"""A drop of so many points that the samples could miss is worth a sentence."""


def compare_with_original(fidelity: Fidelity, result: Run, limit: float = math.inf) -> Accuracy:
    """The fidelity of a result to the original; on fewer samples where these show that it loses more than ``limit``."""
    scores, samples = fidelity.compare_until(result, limit)
    return accuracy_of_outputs(scores, samples=samples)


def accuracy_of_outputs(scores: Sequence[OutputScore], *, samples: int | None = None) -> Accuracy:
    """The accuracy for the report from the scores of all outputs: that of the output which loses most, and all."""
    main = worst(scores)
    metric = f"{main.metric}{_with_the_original(main)}"
    drops = None if main.interval is None else tuple(points(main.unit, bound) for bound in reversed(main.interval))
    return Accuracy(
        "fidelity",
        metric,
        main.unit,
        main.before,
        main.after,
        main.drop,
        samples,
        tuple(scores),
        main.interval,
        None if drops is None else (drops[0], drops[1]),
    )


def hint_of_samples(accuracy: Accuracy) -> tuple[str, ...]:
    """A sentence if there are too few samples to tell a drop of one point, or if they are not known."""
    if accuracy.drop_interval is None and accuracy.kind == "evaluation":
        returned = "one number" if accuracy.samples is None else "too few samples"
        return (
            f"the drop has no interval, because {accuracy.metric} returns {returned}: let it return a list with one "
            "number for each sample",
        )
    if accuracy.drop_interval is None or accuracy.samples is None:
        return ()
    unseen = accuracy.drop_interval[1] - max(accuracy.drop, 0.0)
    if unseen <= WORTH_SAYING_POINTS:
        return ()
    enough = samples_for_a_point(accuracy.samples, unseen, clean=accuracy.drop == 0)
    more = "larger --eval data" if accuracy.kind == "evaluation" else "more calibration data, or --eval with labels"
    return (
        f"{plural(accuracy.samples, 'sample is', 'samples are')} too few to tell drops below {unseen:.2g} points "
        f"(95%); about {enough} tell one point: give {more}",
    )


def accuracy(evaluation: Evaluation, before: Score, after: Score) -> Accuracy:
    """The accuracy for the report, from the scores of the original and of the result by one evaluation."""
    name, _, unit = evaluation.metric.rpartition(" (")
    unit = unit.rstrip(")") if name else ""
    return Accuracy(
        "evaluation",
        name or evaluation.metric,
        unit,
        before.value,
        after.value,
        before.value - after.value,
        after.samples,
        interval=after.interval(),
        drop_interval=before.drop_interval(after),
    )


def _with_the_original(score: OutputScore) -> str:
    return " against the original" if score.unit == "dB" else " with the original"
