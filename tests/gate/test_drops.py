"""Which outputs' drop counts."""

from __future__ import annotations

import pytest

from edgeprune.errors import UsageError
from edgeprune.gate.drops import drop_of
from edgeprune.report import Accuracy, OutputScore

SCORES = (
    OutputScore(("boxes",), "detections", "F1", "%", 100.0, 99.5, 0.5),
    OutputScore(("a", "b"), "map", "SQNR", "dB", None, 20.0, 3.0),
    OutputScore(("debug",), "map", "SQNR", "dB", None, 5.0, 50.0, weight=0.0),
)
WHOLE = Accuracy("fidelity", "SQNR", "dB", None, 20.0, 3.0, 8, SCORES)


@pytest.mark.parametrize(
    ("outputs", "drop", "metric"),
    [
        ((), 3.0, "SQNR of a, b"),
        (("boxes",), 0.5, "F1 of boxes"),
        (("boxes", "b"), 3.0, "SQNR of a, b"),
        (("debug",), 50.0, "SQNR of debug"),
    ],
)
def test_the_worst_of_the_outputs_that_count(outputs: tuple[str, ...], drop: float, metric: str):
    assert drop_of(WHOLE, outputs) == (drop, metric)


def test_an_unknown_output_is_named():
    with pytest.raises(UsageError, match="--outputs: the report has no output 'masks'; it has 'boxes', 'a', 'b'"):
        drop_of(WHOLE, ["masks"])
