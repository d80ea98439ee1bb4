"""Cached latencies are equal to computed ones."""

import itertools

import numpy as np
import pytest

from edgeprune.search.search_state import Point, State, moves
from tests.search.test_solver import chain


def random_point(state: State, rng: np.random.Generator) -> Point:
    return Point(
        tuple(int(rng.integers(len(v))) for v in state.problem.levels),
        tuple(int(rng.integers(len(n))) for n in state.format_names),
    )


def test_latencies_of_moves_are_exact_although_they_are_cached() -> None:
    rng = np.random.default_rng(0)
    problem = chain(4, rng)
    state = State(problem)
    for _ in range(40):
        p = random_point(state, rng)
        found = moves(state, p)
        reached = set()
        for i, (time_us, loss) in enumerate(zip(found.time_us, found.loss, strict=True)):
            q = found.on(p, i)
            reached.add(q)
            fresh = State(problem)
            assert time_us == pytest.approx(fresh.time(q) - fresh.time(p), abs=1e-9)
            assert loss == pytest.approx(fresh.loss(q) - fresh.loss(p), abs=1e-12)
        others = sum(len(v) - 1 for v in problem.levels) + sum(len(n) - 1 for n in state.format_names)
        assert len(reached - {p}) == len(found.slot) == others


def test_latencies_are_those_of_the_latency_model() -> None:
    rng = np.random.default_rng(1)
    state = State(chain(3, rng))
    for _ in range(20):
        candidate = state.candidate(random_point(state, rng))
        assert candidate.latency_us == pytest.approx(
            state.problem.latency.total_us(candidate.widths, candidate.formats)
        )


def test_a_candidate_becomes_its_point_again() -> None:
    rng = np.random.default_rng(2)
    state = State(chain(3, rng))
    for _ in range(20):
        p = random_point(state, rng)
        assert state.point(state.candidate(p)) == p


@pytest.mark.parametrize("seed", range(6))
def test_of_two_formats_the_fastest_mix_is_found(seed: int) -> None:
    problem = chain(6, np.random.default_rng(seed))
    state = State(problem)
    model, sizes = problem.latency, problem.latency.sizes
    every = itertools.product(*(model.formats(b) for b in range(len(state.format_names))))
    fastest_us = min(model.total_us(sizes, formats) for formats in every)
    assert state.time(state.fastest_formats()) == pytest.approx(fastest_us, rel=1e-6)
