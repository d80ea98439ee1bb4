"""The closed loop where measurements have noise, and longer ones have less of it."""

from dataclasses import replace

import numpy as np
import pytest

from edgeprune.search.closed_loop import ClosedLoop
from edgeprune.search.solver import Candidate, Problem, Searcher
from edgeprune.search.timings import Timing
from tests.search.test_closed_loop import device, fine_chain


def test_a_longer_measurement_decides() -> None:
    problem = fine_chain()
    honest = device(problem, 1.3)

    start = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.5, honest).meet().candidate

    def disturbed_once(candidate: Candidate) -> Timing:
        timed = honest(candidate)
        disturbed = (candidate.widths == start.widths).all() and candidate.formats == start.formats
        return Timing(timed.baseline_us, (0.93 if disturbed else 1.0) * timed.measured_us, noise=0.05)

    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, disturbed_once, long_timing=honest).meet(
        first=start
    )
    timed = honest(feasible.candidate)
    assert timed.measured_us < honest(start).measured_us
    assert feasible.measured_us == pytest.approx(timed.measured_us, rel=1e-3)
    assert timed.measured_us <= timed.baseline_us / 1.6


def test_only_the_result_is_measured_for_longer() -> None:
    problem = fine_chain()
    honest = device(problem, 1.3, offset_us=2.0)
    measured_long: list[Candidate] = []

    def short(candidate: Candidate) -> Timing:
        return replace(honest(candidate), noise=0.04)

    def long(candidate: Candidate) -> Timing:
        measured_long.append(candidate)
        return replace(honest(candidate), noise=0.02)

    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, short, long_timing=long).meet()
    assert len(measured_long) == 1
    assert (measured_long[0].widths == feasible.candidate.widths).all()


class Disturbed:
    """A device whose measurements have noise; a longer one half as much."""

    def __init__(self, problem: Problem, seed: int):
        self.honest = device(problem, 1.3, offset_us=2.0)
        self.rng = np.random.default_rng(seed)
        self.calls: list[Candidate] = []

    def short(self, candidate: Candidate) -> Timing:
        return self._timed(candidate, 0.03)

    def long(self, candidate: Candidate) -> Timing:
        return self._timed(candidate, 0.015)

    def _timed(self, candidate: Candidate, noise: float) -> Timing:
        self.calls.append(candidate)
        timed = self.honest(candidate)
        off = float(np.exp(noise * self.rng.standard_normal()))
        return Timing(timed.baseline_us, timed.measured_us * off, noise)


def test_noise_causes_few_measurements() -> None:
    problem = fine_chain()
    shares, measured = [], []
    for seed in range(20):
        noisy = Disturbed(problem, seed)
        feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, noisy.short, noisy.long).meet()
        shares.append(1.6 * noisy.honest(feasible.candidate).share)
        measured.append(len(noisy.calls))
    assert 0.94 < np.median(shares) < 0.99
    assert np.quantile(shares, 0.9) < 1.01
    assert np.median(measured) <= 5


def test_a_candidate_that_is_expected_to_fit_goes_before_the_fastest_one() -> None:
    problem = fine_chain()
    honest = device(problem, 1.3)
    # Every candidate but the fastest one leaves a thousandth of the budget unused.
    fastest_us = Searcher(problem).fastest().latency_us

    def stubborn(candidate: Candidate) -> Timing:
        timed = honest(candidate)
        is_fastest = candidate.latency_us <= fastest_us
        return replace(
            timed, measured_us=timed.measured_us if is_fastest else 0.999 * timed.baseline_us / 1.6, noise=0.01
        )

    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, stubborn, long_timing=stubborn).meet()
    assert 0.95 < 1.6 * feasible.timing.share <= 1.0
