"""The choice of a schedule, with an artificial network."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from edgeprune.search import Searcher
from edgeprune.tokens.choice import choose_tokens, choose_within
from edgeprune.tokens.trials import TokenTrial
from tests.search.test_solver import chain

PROBLEM = chain(3, np.random.default_rng(0))
FASTEST = Searcher(PROBLEM).fastest().latency_us
FULL = PROBLEM.latency.total_us(PROBLEM.latency.sizes, ("fp32",) * 4)


def trial(share: float, error: float) -> TokenTrial:
    unused = cast(Any, None)
    return TokenTrial(unused, unused, share, error)


def test_tokens_leave_where_they_lose_less_than_widths_and_formats() -> None:
    budget_us = 0.5 * (FASTEST + FULL)
    alone = Searcher(PROBLEM).search(budget_us).loss
    assert alone > 0
    cheap, costly = trial(0.8, 0.0), trial(0.8, 10 * alone)
    assert choose_tokens([costly, cheap], PROBLEM, budget_us).trial is cheap
    kept = choose_tokens([costly], PROBLEM, budget_us)
    assert kept.trial is None
    assert kept.reason.startswith("widths and formats alone lose less: ")


def test_a_budget_that_only_fewer_tokens_meet_has_them_leave() -> None:
    chosen = choose_tokens([trial(0.5, 1e3)], PROBLEM, 0.8 * FASTEST)
    assert chosen.trial is not None
    assert choose_tokens([trial(0.9, 0.0)], PROBLEM, 0.8 * FASTEST).trial is None


def test_within_a_limit_of_accuracy_the_fastest_sum_wins() -> None:
    mild, strong, wild = trial(0.9, 0.001), trial(0.6, 0.002), trial(0.3, 5.0)
    drops = {mild: 0.1, strong: 0.2, wild: 40.0}
    found = choose_within([mild, strong, wild], PROBLEM, drops.__getitem__, 1.0)
    assert found.trial is strong


def test_schedules_that_lose_too_much_alone_are_not_chosen() -> None:
    found = choose_within([trial(0.3, 5.0)], PROBLEM, lambda _: 0.9, 1.0)
    assert found.trial is None
    assert found.reason == "the mildest schedule alone loses 0.90 points"
