from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgeprune.latency.block_latency import LatencyModel
from edgeprune.search.format_race import Raced, balanced, race_formats
from edgeprune.search.solver import Candidate, Problem, fastest_unpruned
from edgeprune.search.unpruned import best_unpruned
from tests.search.test_solver import chain

BLOCKS = 4


def made(seed: int = 0, *, core: float = 0.9) -> tuple[Problem, LatencyModel]:
    """A chain of blocks; the model predicts that it is fastest with INT8 only in convolutions and MatMuls."""
    problem = chain(BLOCKS - 1, np.random.default_rng(seed))
    latency = problem.latency
    assert isinstance(latency, LatencyModel)
    theta = latency.theta["fp32"]
    latency = replace(latency, theta={"fp32": theta, "int8": theta, "int8-core": theta * core}, switch_us=(0.0, 0.0))
    losses = tuple({"fp32": 0.0, "int8": 0.02, "int8-core": 0.01} for _ in range(BLOCKS))
    return Problem(latency, problem.levels, problem.width_loss, losses), latency


class Truth:
    """True latencies: those of each format differ from the model by a factor."""

    def __init__(self, latency: LatencyModel, **factors: float):
        names = {"fp32": "fp32", "int8": "int8", "core": "int8-core"}
        theta = {names[n]: latency.theta[names[n]] * f for n, f in factors.items()}
        self.latency, self.races = replace(latency, theta=theta), 0

    def __call__(self, candidates: Sequence[Candidate]) -> list[float]:
        self.races += 1
        slower = 1.0 + 0.5 * (self.races - 1)  # the machine slows down from race to race
        return [slower * self.latency.total_us(c.widths, c.formats) for c in candidates]


def test_the_latency_of_a_format_is_corrected_if_its_network_is_slower_than_its_blocks() -> None:
    problem, latency = made()
    assert set(fastest_unpruned(problem).formats) == {"int8-core"}
    truth = Truth(latency, fp32=1.0, int8=0.6, core=1.1)
    corrected, raced = race_formats(problem, latency, truth)
    assert set(fastest_unpruned(corrected).formats) == {"int8"}
    assert [set(r.candidate.formats) for r in raced] == [{"int8"}, {"int8-core"}, {"fp32"}]
    for r in raced:
        predicted = corrected.latency.total_us(r.candidate.widths, r.candidate.formats)
        # The ridge regression does not fit the races exactly.
        assert predicted == pytest.approx(r.us, rel=0.05)


def test_a_correct_model_stays_the_same_after_one_race() -> None:
    problem, latency = made()
    truth = Truth(latency, fp32=1.0, int8=1.0, core=1.0)
    corrected, _ = race_formats(problem, latency, truth)
    assert truth.races == 1
    assert corrected.latency.total_us(latency.sizes, ["int8"] * BLOCKS) == pytest.approx(
        latency.total_us(latency.sizes, ["int8"] * BLOCKS), rel=1e-9
    )


def test_the_fastest_formats_by_the_corrected_model_race_too() -> None:
    problem, latency = made(core=0.95)
    theta = {f: t.copy() for f, t in latency.theta.items()}
    theta["int8"][0] *= 0.5  # one block is faster in int8, the others in int8-core
    latency = replace(latency, theta=theta)
    problem = replace(problem, latency=latency)
    truth = Truth(latency, fp32=1.0, int8=1.4, core=1.0)
    _, raced = race_formats(problem, latency, truth)
    for r in raced:
        assert r.us == pytest.approx(truth.latency.total_us(r.candidate.widths, r.candidate.formats), rel=1e-9)


def test_the_winner_of_a_race_is_the_best_unpruned_network() -> None:
    problem, latency = made()
    winner, loser = (
        Candidate(latency.sizes, (f,) * BLOCKS, latency.total_us(latency.sizes, [f] * BLOCKS), 0.0)
        for f in ("int8", "int8-core")
    )
    raced = (Raced(winner, 80.0), Raced(loser, 90.0))
    assert fastest_unpruned(problem).formats == loser.formats
    found = best_unpruned(problem, lambda _: True, raced)
    assert found is not None
    assert found.formats == winner.formats
    # If the winner loses too much accuracy, the next candidate is used.
    careful = best_unpruned(problem, lambda candidate: candidate.formats != winner.formats, raced)
    assert careful is None or careful.formats != winner.formats


def test_factors_are_bounded() -> None:
    _, latency = made()
    candidates = [Candidate(latency.sizes, (f,) * BLOCKS, 0.0, 0.0) for f in ("fp32", "int8", "int8-core")]
    raced = [Raced(candidates[0], 1000.0), Raced(candidates[1], 1.0), Raced(candidates[2], 1000.0)]
    corrected = balanced(latency, raced)
    ratios = [corrected.theta[f][0, 0] / latency.theta[f][0, 0] for f in ("fp32", "int8")]
    assert ratios[0] / ratios[1] <= 4.0 + 1e-9
