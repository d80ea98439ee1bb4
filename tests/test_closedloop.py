"""The closed loop on made-up devices: what is measured decides, whatever was predicted."""

from dataclasses import replace

import numpy as np
import pytest

from edgeprune.closedloop import CLOSE, Begun, Timing, approach, meet_budget
from edgeprune.errors import BudgetError
from edgeprune.search import Choice, Problem, Searcher
from tests.test_search import chain


def device(problem: Problem, factor: float, offset_us: float = 0.0):
    """A device that is slower than predicted: by a factor, and by an offset that no factor describes."""
    model = problem.latency
    dense_us = model.total_us(model.sizes, ["fp32"] * len(model.geometries))

    def measure_us(choice: Choice) -> Timing:
        return Timing(dense_us * factor + offset_us, model.total_us(choice.widths, choice.formats) * factor + offset_us)

    return measure_us


@pytest.mark.parametrize(("factor", "offset_us"), [(1.0, 0.0), (0.6, 0.0), (1.7, 0.0), (1.0, 3.0)])
def test_the_budget_is_met_as_measured(factor: float, offset_us: float) -> None:
    problem = chain(4, np.random.default_rng(0))
    measure_us = device(problem, factor, offset_us)
    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, measure_us)
    timed = measure_us(met.choice)
    assert timed.measured_us <= timed.baseline_us / 1.6
    assert met.measured_us == timed.measured_us


def test_the_corrected_model_predicts_what_was_measured() -> None:
    problem = chain(4, np.random.default_rng(1))
    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.5, device(problem, 1.4))
    predicted_us = met.problem.latency.total_us(met.choice.widths, met.choice.formats)
    assert predicted_us == pytest.approx(met.measured_us, rel=0.02)


def test_what_can_be_met_is_said() -> None:
    problem = chain(2, np.random.default_rng(0))
    with pytest.raises(
        BudgetError, match=r"can't be met: the fastest network that was measured takes [\d.]+ ms, [\d.]+x as fast"
    ):
        meet_budget(problem, lambda baseline_us: baseline_us / 50, device(problem, 1.0))


def test_little_of_the_budget_is_left_where_widths_allow_it() -> None:
    problem = fine_chain()
    measure_us = device(problem, 1.3, offset_us=2.0)
    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, measure_us)
    timed = measure_us(met.choice)
    assert (1 - CLOSE) * timed.baseline_us / 1.6 <= timed.measured_us <= timed.baseline_us / 1.6


def test_a_first_choice_that_fits_is_measured_once_and_kept() -> None:
    problem = fine_chain()
    measure_us = device(problem, 1.0)
    calls: list[Choice] = []

    def counted(choice: Choice) -> Timing:
        calls.append(choice)
        return measure_us(choice)

    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, counted)
    calls.clear()
    again = meet_budget(met.problem, lambda baseline_us: baseline_us / 1.6, counted, first=met.choice)
    assert len(calls) == 1
    assert (again.choice.widths == met.choice.widths).all()


def test_a_first_choice_that_does_not_fit_is_replaced() -> None:
    problem = fine_chain()
    dense = Choice(
        problem.latency.sizes, ("fp32",) * 5, problem.latency.total_us(problem.latency.sizes, ["fp32"] * 5), 0
    )
    measure_us = device(problem, 1.0)
    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, measure_us, first=dense)
    assert measure_us(met.choice).measured_us <= measure_us(dense).measured_us / 1.6


def test_the_fastest_there_is_counts_although_it_was_predicted_to_be_too_slow() -> None:
    problem = fine_chain()
    searcher = Searcher(problem)
    quickest = searcher.fastest()
    dense_us = problem.latency.total_us(problem.latency.sizes, ["fp32"] * 5)

    def measure_us(choice: Choice) -> Timing:
        # Small networks are faster than predicted by a third, the others are as predicted.
        return Timing(dense_us, choice.latency_us * (0.66 if choice.latency_us < 1.05 * quickest.latency_us else 1.0))

    met = meet_budget(problem, lambda _: 0.9 * quickest.latency_us, measure_us)
    assert met.measured_us <= 0.9 * quickest.latency_us


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


def test_a_device_with_a_step_that_no_factor_describes_is_met_from_both_sides() -> None:
    problem = fine_chain()
    model = problem.latency
    dense_us = model.total_us(model.sizes, ["fp32"] * len(model.geometries))

    def measure_us(choice: Choice) -> Timing:
        predicted_us = model.total_us(choice.widths, choice.formats)
        return Timing(dense_us, predicted_us * (0.7 if predicted_us < 0.65 * dense_us else 1.2))

    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, measure_us)
    assert 0.9 * (0.65 * 0.7 * dense_us) <= met.measured_us <= dense_us / 1.6


def test_a_longer_measurement_has_the_last_word() -> None:
    problem = fine_chain()
    honest = device(problem, 1.3)

    start = meet_budget(problem, lambda baseline_us: baseline_us / 1.5, honest).choice

    def hasty(choice: Choice) -> Timing:
        timed = honest(choice)
        disturbed = (choice.widths == start.widths).all() and choice.formats == start.formats
        return Timing(timed.baseline_us, (0.93 if disturbed else 1.0) * timed.measured_us)

    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, hasty, first=start, sure=honest)
    timed = honest(met.choice)
    assert timed.measured_us < honest(start).measured_us
    assert met.measured_us == timed.measured_us <= timed.baseline_us / 1.6


def test_what_is_approached_is_predicted_to_fit_as_measured() -> None:
    problem = fine_chain()
    measure_us = device(problem, 1.3, offset_us=2.0)
    calls: list[Choice] = []

    def counted(choice: Choice) -> Timing:
        calls.append(choice)
        return measure_us(choice)

    corrected, choice, budget_us = approach(problem, lambda baseline_us: baseline_us / 1.6, counted)
    timed = measure_us(choice)
    assert choice.latency_us <= budget_us <= timed.baseline_us / 1.6
    assert choice.latency_us == pytest.approx(timed.measured_us, rel=0.1)
    assert choice.latency_us == pytest.approx(corrected.latency.total_us(choice.widths, choice.formats))
    assert len(calls) <= 3


def test_a_budget_that_nothing_comes_near_is_refused_at_once() -> None:
    problem = chain(2, np.random.default_rng(0))
    with pytest.raises(BudgetError, match="can't be met: the fastest network"):
        approach(problem, lambda baseline_us: baseline_us / 50, device(problem, 1.0))


def test_a_loop_begins_with_what_was_timed_before() -> None:
    problem = fine_chain()
    honest = device(problem, 1.4)
    unpruned = Searcher(problem).fastest_unpruned()
    calls: list[Choice] = []

    def counted(choice: Choice) -> Timing:
        calls.append(choice)
        return honest(choice)

    begun = Begun(unpruned, honest(unpruned))
    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, counted, begun=begun)
    assert met.measured_us <= honest(met.choice).baseline_us / 1.6
    assert len(calls) == 1
    calls.clear()
    approach(problem, lambda baseline_us: baseline_us / 1.6, counted, begun)
    assert len(calls) == 1
    assert all((c.widths != unpruned.widths).any() for c in calls)


def test_what_is_known_of_cut_networks_saves_a_round() -> None:
    problem = fine_chain()
    model, cut_slower = problem.latency, 1.25
    dense_us = model.total_us(model.sizes, ["fp32"] * len(model.geometries))
    calls: list[Choice] = []

    def measure_us(choice: Choice) -> Timing:
        calls.append(choice)
        bend = cut_slower if (choice.widths < model.sizes).any() else 1.0
        return Timing(dense_us, model.total_us(choice.widths, choice.formats) * bend)

    unpruned = Searcher(problem).fastest_unpruned()
    begun, rounds = Begun(unpruned, measure_us(unpruned)), []
    for by in (1.0, cut_slower):
        calls.clear()
        met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, measure_us, begun=begun.bent(by))
        assert met.measured_us <= dense_us / 1.6
        rounds.append(len(calls))
    assert rounds[1] < rounds[0]
    assert met.bend(begun, problem) == pytest.approx(cut_slower)


def test_only_what_would_be_built_is_measured_for_longer() -> None:
    problem = fine_chain()
    honest = device(problem, 1.3, offset_us=2.0)
    surely: list[Choice] = []

    def sure(choice: Choice) -> Timing:
        surely.append(choice)
        return honest(choice)

    met = meet_budget(problem, lambda baseline_us: baseline_us / 1.6, honest, sure=sure)
    assert len(surely) == 1
    assert (surely[0].widths == met.choice.widths).all()
