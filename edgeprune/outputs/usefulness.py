"""A floor of usefulness: below it, a result is too far from the original to be of use, whatever it gained in speed."""

from __future__ import annotations

from edgeprune.report import Accuracy, OutputScore

FLOORS = {
    "F1 of detections": (50.0, "most detections are lost"),
    "intersection over union": (50.0, "most of the area is elsewhere"),
    "cosine similarity": (80.0, "embeddings point elsewhere"),
    "equality": (80.0, "more than a fifth of the integers differ"),
}
"""Metric -> least score in percent, and what is wrong below it."""

LEAST_AGREEMENT = 80.0
LEAST_SQNR_DB = 10.0
MOST_LOST_SHARE = 0.2
"""A result keeps at least 1 minus this share of a score by the user's own evaluation."""


def usefulness(accuracy: Accuracy | None) -> tuple[str, ...]:
    """Why a result is below the floor of usefulness: one clause for each reason; empty if it is above the floor.

    Args:
        accuracy: the accuracy or fidelity in a report; nothing is known without one, so nothing is said.
    """
    if accuracy is None:
        return ()
    if accuracy.kind == "evaluation":
        return _of_evaluation(accuracy)
    if not accuracy.outputs:
        return _below(None, accuracy.metric, accuracy.unit, accuracy.after)
    return tuple(reason for score in accuracy.outputs if score.counts for reason in _of_output(score))


def unseen(accuracy: Accuracy) -> tuple[str, ...]:
    """What is below the floor at single outputs although the user's evaluation is above it: one clause for each."""
    if accuracy.kind != "evaluation" or _of_evaluation(accuracy):
        return ()
    return tuple(reason for score in accuracy.outputs if score.counts for reason in _of_output(score))


def _of_output(score: OutputScore) -> tuple[str, ...]:
    return _below(score.title, score.metric, score.unit, score.after)


def _below(name: str | None, metric: str, unit: str, score: float) -> tuple[str, ...]:
    of = "" if name is None else f"output {name!r}: "
    if unit == "dB":
        if score >= LEAST_SQNR_DB:
            return ()
        return (f"{of}{metric} of {score:.1f} dB is below {LEAST_SQNR_DB:g} dB: the noise is too near the signal",)
    least, wrong = FLOORS.get(metric, (LEAST_AGREEMENT, "more than a fifth of the classes differ"))
    if unit != "%" or score >= least:
        return ()
    return (f"{of}{metric} of {score:.1f}% is below {least:g}%: {wrong}",)


def _of_evaluation(accuracy: Accuracy) -> tuple[str, ...]:
    before, after = accuracy.before, accuracy.after
    if before is None or before <= 0 or after >= (1 - MOST_LOST_SHARE) * before:
        return ()
    unit = accuracy.unit if accuracy.unit == "%" else f" {accuracy.unit}".rstrip()
    lost = 1 - max(after, 0.0) / before
    return (f"{accuracy.metric} fell from {before:.4g}{unit} to {after:.4g}{unit}: {lost:.0%} of it is lost",)
