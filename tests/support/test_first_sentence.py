from __future__ import annotations

import pytest

from edgeprune.support import first_sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[ONNXRuntimeError] : 1 : FAIL : no kernel for Foo.\nmore", "1 : FAIL : no kernel for Foo"),
        (
            "input 'x' of node:\n  name: conv_1 OpType: Conv\nis not an output",
            "input 'x' of node: name: conv_1 OpType: Conv",
        ),
        ("\n\n  late \n", "late"),
        ("only this:", "only this"),
        ("", "ValueError"),
    ],
)
def test_a_message_is_not_cut_at_a_colon(text: str, sentence: str):
    assert first_sentence(ValueError(text)) == sentence


def test_the_innermost_cause_speaks():
    error = ValueError("the effect")
    error.__cause__ = KeyError("the cause")
    assert first_sentence(error) == "'the cause'"
