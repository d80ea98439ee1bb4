"""The drop of an accuracy that counts: of all, or of the outputs that were asked for."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.errors import UsageError
from edgeprune.report import Accuracy, OutputScore


def drop_of(accuracy: Accuracy, outputs: Sequence[str]) -> tuple[float, str]:
    """The drop in points, and what it is measured by; of the worst of the outputs, if any are given.

    Raises:
        UsageError: there is no fidelity of such an output.
    """
    if outputs:
        known = {name: score for score in accuracy.outputs for name in score.names}
        if missing := [name for name in outputs if name not in known]:
            has = ", ".join(map(repr, known)) or "no fidelity of single outputs"
            raise UsageError(f"--outputs: the report has no output {missing[0]!r}; it has {has}")
        worst = max((known[name] for name in outputs), key=lambda score: score.drop)
        return worst.drop, f"{worst.metric} of {worst.title}"
    if len(accuracy.outputs) > 1 and accuracy.kind == "fidelity":
        return accuracy.drop, f"{accuracy.metric} of {max((s for s in accuracy.outputs if s.counts), key=_lost).title}"
    return accuracy.drop, accuracy.metric


def _lost(score: OutputScore) -> float:
    return score.drop
