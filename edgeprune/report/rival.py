"""A smaller model beside the result: what a user would deploy instead; a part of report.json and pareto.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from edgeprune.report.accuracy import Accuracy

Verdict = Literal["wins", "loses", "neither", "unknown"]


@dataclass(frozen=True)
class Rival:
    """A model as it is, without pruning, in its fastest precision of acceptable loss.

    Attributes:
        file: its file name without folders.
        sha256: of the file, in hexadecimal.
        variant: what of it was timed: ``original``, or a precision.
        latency_ms: measured median, or predicted.
        measured: whether the latency was measured, on the same device as the result's.
        accuracy: by the same evaluation as the result's, or agreement with the large original; None if that cannot be
            computed.
        not_scored: why it has no accuracy; empty if it has one.
    """

    file: str
    sha256: str
    variant: str
    latency_ms: float
    measured: bool
    accuracy: Accuracy | None
    not_scored: str = ""

    def against(self, latency_ms: float, accuracy: Accuracy | None) -> Verdict:
        """How it does against a result: ``wins`` if it is no slower and scores no lower.

        ``unknown`` without two scores of the same measure: a training, or another output that loses most, changes it.
        """
        if self.accuracy is None or accuracy is None or self.accuracy.measure != accuracy.measure:
            return "unknown"
        faster, better = self.latency_ms - latency_ms, accuracy.after - self.accuracy.after
        if faster <= 0 and better <= 0:
            return "wins"
        return "loses" if faster >= 0 and better >= 0 else "neither"

    def sentence(self, latency_ms: float, accuracy: Accuracy | None, called: str = "the result") -> str:
        """The comparison with a result, for people."""
        about = f"the rival {self.file} as it is ({self.variant})"
        ms = f"{self.latency_ms:.3g} ms{'' if self.measured else ' predicted'} against {latency_ms:.3g} ms"
        verdict = self.against(latency_ms, accuracy)
        if self.accuracy is None or accuracy is None or verdict == "unknown":
            why = self.not_scored or f"{called} has no score"
            if self.accuracy is not None and accuracy is not None:
                why = f"its score is {self.accuracy.measure}, that of {called} {accuracy.measure}"
            return f"{about} takes {ms} of {called}; which one is more accurate is not known: {why}"
        scores = f"{accuracy.metric} {self.accuracy.after:.2f} against {accuracy.after:.2f} {accuracy.unit}".rstrip()
        text = {
            "wins": f"{about} wins against {called}: {ms}, {scores}; deploy it instead",
            "loses": f"{called} beats {about}: {ms}, {scores}",
            "neither": f"neither {about} nor {called} beats the other: {ms}, {scores}",
        }[verdict]
        if accuracy.kind == "fidelity":
            text += "; without --eval this is agreement with the original, which favours what was made from it"
        return text


def wins_first(compared: Iterable[tuple[Rival, float, Accuracy | None, str]]) -> list[str]:
    """Rivals against results (latency in ms, accuracy, name), in sentences: first those that a rival wins."""
    said = [
        (rival.against(ms, accuracy) != "wins", rival.sentence(ms, accuracy, name))
        for rival, ms, accuracy, name in compared
    ]
    return [text for _, text in sorted(said, key=lambda pair: pair[0])]
