"""The closed loop on simulated devices: measurements decide, not predictions."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgeprune.errors import BudgetError
from edgeprune.search.closed_loop import CLOSE, ClosedLoop
from edgeprune.search.solver import Candidate, Problem, Searcher
from edgeprune.search.timings import StartingPoint, Timing
from tests.search.test_solver import chain


def device(problem: Problem, factor: float, offset_us: float = 0.0):
    """A device that is slower than predicted by a factor and an offset."""
    model = problem.latency
    dense_us = model.total_us(model.sizes, ["fp32"] * len(model.geometries))

    def measure_us(candidate: Candidate) -> Timing:
        return Timing(
            dense_us * factor + offset_us, model.total_us(candidate.widths, candidate.formats) * factor + offset_us
        )

    return measure_us


def recorded(measure_us: Callable[[Candidate], Timing]) -> tuple[Callable[[Candidate], Timing], list[Candidate]]:
    """The same measurements, and the candidates that were measured."""
    calls: list[Candidate] = []

    def counted(candidate: Candidate) -> Timing:
        calls.append(candidate)
        return measure_us(candidate)

    return counted, calls


@pytest.mark.parametrize(("factor", "offset_us"), [(1.0, 0.0), (0.6, 0.0), (1.7, 0.0), (1.0, 3.0)])
def test_the_budget_is_met_as_measured(factor: float, offset_us: float) -> None:
    problem = chain(4, np.random.default_rng(0))
    measure_us = device(problem, factor, offset_us)
    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, measure_us).meet()
    timed = measure_us(feasible.candidate)
    assert timed.measured_us <= timed.baseline_us / 1.6
    assert feasible.measured_us == pytest.approx(timed.measured_us)


def test_the_corrected_model_predicts_what_was_measured() -> None:
    problem = chain(4, np.random.default_rng(1))
    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.5, device(problem, 1.4)).meet()
    predicted_us = feasible.problem.latency.total_us(feasible.candidate.widths, feasible.candidate.formats)
    assert predicted_us == pytest.approx(feasible.measured_us, rel=0.02)


def test_an_impossible_budget_names_the_fastest_network() -> None:
    problem = chain(2, np.random.default_rng(0))
    with pytest.raises(
        BudgetError, match=r"can't be met: the fastest network that was measured runs in [\d.]+ ms, [\d.]+x as fast"
    ):
        ClosedLoop(problem, lambda baseline_us: baseline_us / 50, device(problem, 1.0)).meet()


def test_little_of_the_budget_is_left_where_widths_allow_it() -> None:
    problem = fine_chain()
    measure_us = device(problem, 1.3, offset_us=2.0)
    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, measure_us).meet()
    timed = measure_us(feasible.candidate)
    assert (1 - CLOSE) * timed.baseline_us / 1.6 <= timed.measured_us <= timed.baseline_us / 1.6


def test_a_first_candidate_that_fits_is_measured_once_and_kept() -> None:
    problem = fine_chain()
    measure_us = device(problem, 1.0)
    counted, calls = recorded(measure_us)
    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, counted).meet()
    calls.clear()
    again = ClosedLoop(feasible.problem, lambda baseline_us: baseline_us / 1.6, counted).meet(first=feasible.candidate)
    assert len(calls) == 1
    assert (again.candidate.widths == feasible.candidate.widths).all()


def test_a_first_candidate_that_does_not_fit_is_replaced() -> None:
    problem = fine_chain()
    dense = Candidate(
        problem.latency.sizes, ("fp32",) * 5, problem.latency.total_us(problem.latency.sizes, ["fp32"] * 5), 0
    )
    measure_us = device(problem, 1.0)
    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, measure_us).meet(first=dense)
    assert measure_us(feasible.candidate).measured_us <= measure_us(dense).measured_us / 1.6


def test_the_fastest_candidate_is_measured_although_it_is_predicted_to_be_too_slow() -> None:
    problem = fine_chain()
    searcher = Searcher(problem)
    fastest = searcher.fastest()
    dense_us = problem.latency.total_us(problem.latency.sizes, ["fp32"] * 5)

    def measure_us(candidate: Candidate) -> Timing:
        # Small networks are faster than predicted by a third, the others are as predicted.
        return Timing(
            dense_us, candidate.latency_us * (0.66 if candidate.latency_us < 1.05 * fastest.latency_us else 1.0)
        )

    feasible = ClosedLoop(problem, lambda _: 0.9 * fastest.latency_us, measure_us).meet()
    assert feasible.measured_us <= 0.9 * fastest.latency_us


def fine_chain() -> Problem:
    """A chain with many widths."""
    problem = chain(4, np.random.default_rng(0))
    levels = tuple(np.arange(8, 33, 2) for _ in problem.levels)
    return replace(
        problem,
        latency=replace(problem.latency, lanes=2),
        levels=levels,
        width_loss=tuple((1 - v / 32.0) ** 2 for v in levels),
    )


def test_a_step_that_no_factor_describes_is_bracketed() -> None:
    problem = fine_chain()
    model = problem.latency
    dense_us = model.total_us(model.sizes, ["fp32"] * len(model.geometries))

    def measure_us(candidate: Candidate) -> Timing:
        predicted_us = model.total_us(candidate.widths, candidate.formats)
        return Timing(dense_us, predicted_us * (0.7 if predicted_us < 0.65 * dense_us else 1.2))

    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, measure_us).meet()
    assert 0.9 * (0.65 * 0.7 * dense_us) <= feasible.measured_us <= dense_us / 1.6


def test_an_approached_candidate_is_near_the_budget_when_measured() -> None:
    problem = fine_chain()
    measure_us = device(problem, 1.3, offset_us=2.0)
    counted, calls = recorded(measure_us)
    candidate, within_us = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, counted).approach()
    timed = measure_us(candidate)
    assert candidate.latency_us <= within_us
    assert timed.measured_us == pytest.approx(0.97 * timed.baseline_us / 1.6, rel=0.1)
    assert len(calls) <= 3


def test_approach_refuses_an_impossible_budget() -> None:
    problem = chain(2, np.random.default_rng(0))
    with pytest.raises(BudgetError, match="can't be met: the fastest network"):
        ClosedLoop(problem, lambda baseline_us: baseline_us / 50, device(problem, 1.0)).approach()


def test_a_loop_begins_at_its_starting_point() -> None:
    problem = fine_chain()
    honest = device(problem, 1.4)
    unpruned = Searcher(problem).fastest_unpruned()
    counted, calls = recorded(honest)
    starting_point = StartingPoint(unpruned, honest(unpruned))
    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, counted, starting_point=starting_point).meet()
    assert feasible.measured_us <= honest(feasible.candidate).baseline_us / 1.6
    assert len(calls) == 1
    calls.clear()
    ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, counted, starting_point=starting_point).approach()
    assert len(calls) == 1
    assert all((c.widths != unpruned.widths).any() for c in calls)


def test_a_known_slowdown_of_cut_networks_saves_a_round() -> None:
    problem = fine_chain()
    model, cut_slower = problem.latency, 1.25
    dense_us = model.total_us(model.sizes, ["fp32"] * len(model.geometries))
    calls: list[Candidate] = []

    def measure_us(candidate: Candidate) -> Timing:
        calls.append(candidate)
        slowdown = cut_slower if (candidate.widths < model.sizes).any() else 1.0
        return Timing(dense_us, model.total_us(candidate.widths, candidate.formats) * slowdown)

    unpruned = Searcher(problem).fastest_unpruned()
    starting_point, rounds = StartingPoint(unpruned, measure_us(unpruned)), []
    for by in (1.0, cut_slower):
        calls.clear()
        feasible = ClosedLoop(
            problem, lambda baseline_us: baseline_us / 1.6, measure_us, starting_point=starting_point.scaled(by)
        ).meet()
        assert feasible.measured_us <= dense_us / 1.6
        rounds.append(len(calls))
    assert rounds[1] < rounds[0]
    assert feasible.slowdown(starting_point, problem) == pytest.approx(cut_slower)


def test_a_reweighted_loop_uses_earlier_measurements() -> None:
    problem = fine_chain()
    honest = device(problem, 1.3, offset_us=2.0)
    counted, calls = recorded(honest)
    loop = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, counted)
    loop.approach()
    calls.clear()
    feasible = loop.reweighted(problem).meet()
    assert len(calls) == 1
    assert feasible.measured_us <= honest(feasible.candidate).baseline_us / 1.6


def test_another_attempt_starts_from_the_final_measurement() -> None:
    problem = fine_chain()
    honest = device(problem, 1.3, offset_us=2.0)
    loop = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, honest)
    feasible = loop.meet()
    finally_measured = replace(feasible, timing=Timing(feasible.timing.baseline_us, 1.05 * feasible.measured_us))
    other = loop.adjusted(finally_measured, 0.95)
    assert honest(other.candidate).measured_us == pytest.approx(0.95 * honest(feasible.candidate).measured_us, rel=0.03)
    assert other.measured_us == pytest.approx(1.05 * honest(other.candidate).measured_us, rel=0.03)
    assert other.problem.latency.total_us(other.candidate.widths, other.candidate.formats) == pytest.approx(
        other.measured_us
    )
    with pytest.raises(BudgetError, match="can't be met: the fastest network"):
        loop.adjusted(finally_measured, 0.01)


def test_the_fastest_candidate_is_measured_before_a_budget_is_refused() -> None:
    problem = fine_chain()
    model = problem.latency
    dense_us = model.total_us(model.sizes, ["fp32"] * len(model.geometries))
    fastest = Searcher(problem).fastest()

    def measure_us(candidate: Candidate) -> Timing:
        # No other candidate is faster than 0.8 of the dense network.
        us = model.total_us(candidate.widths, candidate.formats)
        is_fastest = (candidate.widths == fastest.widths).all()
        return Timing(dense_us, us if is_fastest else max(us, 0.8 * dense_us))

    feasible = ClosedLoop(problem, lambda baseline_us: baseline_us / 1.6, measure_us).meet()
    assert (feasible.candidate.widths == fastest.widths).all()
