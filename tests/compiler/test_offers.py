from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from edgeprune.compiler import offers as module
from edgeprune.compiler.offers import TRIALS, Offer, announced, check_useful
from edgeprune.errors import BudgetError
from edgeprune.report import Accuracy
from edgeprune.search import Candidate, Goal

ACCURACY = Accuracy("fidelity", "SQNR against the original", "dB", None, 40.0, 0.01, 8)


def at(us: float) -> Candidate:
    return Candidate(np.array([32]), ("fp32",), us, 0.0)


def test_an_offer_names_the_latency_the_loss_and_the_flag():
    text = Offer(0.108, at(100.0), ACCURACY).text(200.0)
    assert text == (
        "0.100 ms, 2.00x as fast as the original, with SQNR against the original 40.00 dB: "
        "--latency-ms 0.108 can be met (--speedup 1.85)"
    )


def test_a_budget_that_the_original_meets_is_no_offer():
    text = Offer(0.108, at(100.0), ACCURACY).text(101.0)
    assert text.endswith("40.00 dB, which is not surely faster than the original")
    assert "--latency-ms" not in text


def test_a_refusal_says_how_long_it_will_take():
    assert announced(2.0).endswith(
        f"up to {TRIALS + 1} networks are built and compared to offer one that can, at least 12 s"
    )
    assert announced(0.01).endswith("to offer one that can")


def test_a_loss_above_the_limit_is_refused_beside_a_budget(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "offers", lambda *_: "what can be met")
    monkeypatch.setattr(module, "below_floor", lambda *_: ())
    timer = SimpleNamespace(margin=1.0)
    lost = Accuracy("fidelity", "top-1 agreement with the original", "%", 100.0, 97.5, 2.5, 40)
    check_useful(None, Goal(speedup=2, max_drop=3), lost, None, 100.0, timer)
    said = r"loses 2.50 points \(top-1 .* 97.50%\), more than --max-drop 1, .*; what can be met"
    with pytest.raises(BudgetError, match=said):
        check_useful(None, Goal(speedup=2, max_drop=1, accept_loss=True), lost, None, 100.0, timer)


@pytest.mark.parametrize(("is_random", "said"), [(True, "random numbers cannot tell"), (False, "that is still of use")])
def test_random_numbers_do_not_say_that_a_network_is_of_use(
    is_random: bool, said: str, monkeypatch: pytest.MonkeyPatch
):
    data = SimpleNamespace(is_random=is_random)
    session = SimpleNamespace(
        builder=SimpleNamespace(data=data),
        variants=lambda _: {"original": at(100.0)},
        predicted_baseline_us=lambda _: 100.0,
    )
    monkeypatch.setattr(module, "_first_accuracy", lambda *_: ACCURACY)
    monkeypatch.setattr(module, "_fastest_useful", lambda *_: Offer(0.05, at(50.0), ACCURACY))
    latency = SimpleNamespace(total_us=lambda *_: 100.0)
    text = module.offers(session, Goal(speedup=9), latency, 1.05)
    assert f"pruned, the fastest one {'(whether it is of use, ' if is_random else ''}{said}" in text
    assert "--latency-ms 0.050 can be met" in text
