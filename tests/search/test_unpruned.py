from dataclasses import replace

import numpy as np
import pytest

from edgeprune.search.solver import Candidate, Problem
from edgeprune.search.unpruned import _int8_variants, best_unpruned, most_accurate_unpruned
from tests.search.test_solver import chain


def test_a_block_with_a_large_loss_stays_float() -> None:
    made = chain(3, np.random.default_rng(0))
    losses = tuple({"fp32": 0.0, "int8": 5.0 if b == 2 else 0.01} for b in range(4))
    faster = {"fp32": made.latency.theta["fp32"], "int8": made.latency.theta["fp32"] * 0.4}
    latency = type(made.latency)(**{**vars(made.latency), "theta": faster})
    problem = Problem(latency, made.levels, made.width_loss, losses)

    def drop(candidate: Candidate) -> float:
        return sum(loss[f] for loss, f in zip(losses, candidate.formats, strict=True))

    found = best_unpruned(problem, lambda c: drop(c) <= 1.0)
    assert found is not None
    assert found.formats == ("int8", "int8", "fp32", "int8")
    assert (found.widths == latency.sizes).all()


def test_float_if_int8_is_slower_or_loses_too_much() -> None:
    made = chain(2, np.random.default_rng(0))
    slower = {"fp32": made.latency.theta["fp32"], "int8": made.latency.theta["fp32"] * 1.5}
    latency = type(made.latency)(**{**vars(made.latency), "theta": slower})
    losses = tuple({"fp32": 0.0, "int8": 0.01} for _ in range(3))
    assert best_unpruned(Problem(latency, made.levels, made.width_loss, losses), lambda _: True) is None
    assert best_unpruned(made, lambda _: False) is None


def test_the_most_accurate_variant_has_the_least_loss_of_those_in_int8() -> None:
    made = chain(3, np.random.default_rng(0))
    losses = tuple({"fp32": 0.0, "int8": 5.0 if b == 2 else 0.01} for b in range(4))
    faster = {"fp32": made.latency.theta["fp32"], "int8": made.latency.theta["fp32"] * 0.4}
    latency = type(made.latency)(**{**vars(made.latency), "theta": faster})

    def drop(candidate: Candidate) -> float:
        return sum(loss[f] for loss, f in zip(losses, candidate.formats, strict=True))

    found = most_accurate_unpruned(Problem(latency, made.levels, made.width_loss, losses), drop)
    assert found is not None
    assert found.formats[2] == "fp32"
    assert "int8" in found.formats


@pytest.mark.parametrize("most", range(8))
def test_bisection_finds_the_fastest_network_within_the_limit(most: int) -> None:
    """Blocks whose loss falls by more than half from one to the next: every cap leaves fewer of them in INT8."""
    problem = chain(6, np.random.default_rng(0))
    losses = tuple({"fp32": 0.0, "int8": 5.0**-b} for b in range(len(problem.format_loss)))
    problem = replace(problem, format_loss=losses)
    scored: list[int] = []

    def drop(candidate: Candidate) -> float:
        scored.append(sum(f == "int8" for f in candidate.formats))
        return float(scored[-1])

    found = best_unpruned(problem, lambda c: drop(c) <= most)
    inside = [c for c in _int8_variants(problem) if sum(f == "int8" for f in c.formats) <= most]
    assert (found and found.formats) == (inside[0].formats if inside else None)
    assert len(scored) <= 4
