"""Which model is returned: never a pruned one that is slower than an unpruned one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.compiler.outcome import decide
from edgeprune.compiler.timer import Timed
from edgeprune.search.goal import Goal
from edgeprune.search.problem import Candidate
from tests.reports import measurement
from tests.search.test_solver import chain

LATENCY = chain(3, np.random.default_rng(0)).latency
FLOATS = Candidate(LATENCY.sizes, ("fp32",) * 4, 100.0, 0.0)
INT8 = Candidate(LATENCY.sizes, ("int8",) * 4, 50.0, 0.1)
CUT = Candidate(LATENCY.sizes // 2, ("int8",) * 4, 25.0, 0.5)


def decided(
    candidate: Candidate, result_ms: float, goal: Goal, *, original_ms: float = 6.0, as_asked: bool = False
) -> tuple[str, Any]:
    session = SimpleNamespace(
        is_cut=lambda c: c is CUT,
        block_name="blocks",
        floating="fp32",
        as_asked=as_asked,
        latency=LATENCY,
        predicted_baseline_us=lambda latency: 6000.0,
        whole=None,
        stream=None,
    )
    measured = {
        "original": measurement(original_ms),
        "result": measurement(result_ms),
        "fp32": measurement(5.0),
        "int8": measurement(3.0),
    }
    timed = Timed(candidate, LATENCY, {"fp32": FLOATS, "int8": INT8}, {}, measured)
    return decide(cast(Any, session), goal, timed, 1.0)


@pytest.mark.parametrize(
    ("result_ms", "goal", "returned", "variant", "pays"),
    [
        (2.0, Goal(max_drop=1), "result", "compressed", True),
        (2.99, Goal(max_drop=1), "int8", "unpruned-int8", False),
        (2.99, Goal(speedup=2.005), "result", "compressed", False),  # the variant misses the budget
        (2.99, Goal(speedup=1.5), "int8", "unpruned-int8", False),
        (4.0, Goal(max_drop=1), "int8", "unpruned-int8", False),
    ],
)
def test_a_pruned_network_must_be_faster_than_the_unpruned_ones(
    result_ms: float, goal: Goal, returned: str, variant: str, pays: bool
) -> None:
    name, outcome = decided(CUT, result_ms, goal)
    assert (name, outcome.variant, outcome.pays) == (returned, variant, pays)
    assert ("does not pay" in outcome.reason) == (not pays)


def test_the_original_is_returned_if_it_is_the_fastest() -> None:
    name, outcome = decided(CUT, 4.0, Goal(max_drop=1), original_ms=2.0)
    assert (name, outcome.variant) == ("original", "original")
    assert "0.50x as fast as the original" in outcome.reason


@pytest.mark.parametrize(("result_ms", "gains"), [(4.95, False), (3.0, True)])
def test_int8_that_gains_nothing_says_so(result_ms: float, gains: bool) -> None:
    name, outcome = decided(INT8, result_ms, Goal(prune=False), as_asked=True)
    assert (name, outcome.variant) == ("result", "unpruned-int8")
    assert ("INT8 gains nothing here: the network is 1.01x as fast as in fp32" in outcome.reason) != gains


@pytest.mark.parametrize(("as_asked", "returned"), [(True, "result"), (False, "int8")])
def test_a_precision_that_was_asked_for(as_asked: bool, returned: str) -> None:
    name, _ = decided(FLOATS, 5.0, Goal(prune=False), as_asked=as_asked)
    assert name == returned
