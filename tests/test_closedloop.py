"""The closed loop on made-up devices: what is measured decides, whatever was predicted."""

import numpy as np
import pytest

from edgeprune.closedloop import Timing, meet_budget
from edgeprune.errors import BudgetError
from edgeprune.search import Choice, Problem
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
