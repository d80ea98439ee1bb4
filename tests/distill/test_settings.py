"""Settings are checked with the flag's name."""

from __future__ import annotations

import pytest

from edgeprune.distill import Settings, parse_losses
from edgeprune.errors import UsageError


def test_losses_with_and_without_weights() -> None:
    assert parse_losses("kd, feature:0.5") == {"kd": 1.0, "feature": 0.5}
    assert parse_losses("none") == {}


@pytest.mark.parametrize("text", ["kd:x", "kd:0", "kd:-1"])
def test_a_weight_that_is_no_positive_number(text: str) -> None:
    with pytest.raises(UsageError, match=f"--loss {text}: the weight must be a positive number"):
        parse_losses(text)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(losses={"kl": 1.0}), "--loss kl is not known; known are kd"),
        (Settings(losses={}), "--loss none needs --labels"),
        (Settings(minutes=0), "--minutes must be positive"),
        (Settings(scales="learned", qat=False), "--scales learned needs the Q/DQ of the model"),
        (Settings(rate=2.0), "--rate must lie between 0 and 1"),
        (Settings(batch=0), "--batch and --micro-batch must be at least 1"),
    ],
)
def test_what_cannot_be_done_is_said(settings: Settings, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        settings.check()


def test_half_an_hour_if_nothing_is_said() -> None:
    assert Settings().limits == (30.0, None, None)
    assert Settings(steps=3).limits == (None, 3, None)
