"""Several runs of a report: they make a latency more certain, show their own scatter, and outvote a disturbed one."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import pytest

from edgeprune.gate.baselines import slower_machine, why_no_baseline
from edgeprune.gate.estimate import estimate
from edgeprune.gate.gate import gate
from edgeprune.report import Repeat, Report
from edgeprune.timing.protocol import Measurement, ratio
from tests.reports import latency, measurement, of_blocks, report


def drifting(median_ms: float, by: float = 0.3) -> Measurement:
    return of_blocks([median_ms * (1 + by * i / 19) for i in range(20)])


def repeated(pairs: Sequence[tuple[Measurement, Measurement]]) -> Report:
    first, *others = (Repeat(before, after, ratio(before, after)) for before, after in pairs)
    whole = latency(first.baseline, first.result, repeats=tuple(others))
    return report(latency=whole)


def steady(count: int, ms: float = 2.0, scatter: Sequence[float] = (0.0, 0.01, -0.01, 0.005, -0.005)) -> Report:
    """Runs whose results differ by these fractions."""
    pairs = [
        (measurement(6.0, noise=0.01, seed=k), measurement(ms * (1 + scatter[k]), noise=0.01, seed=k + 50))
        for k in range(count)
    ]
    return repeated(pairs)


def found(made: Report, *, noise: float = 0.01, relative: bool = False):
    assert made.latency is not None
    return estimate(made.latency, noise, relative=relative)


def test_one_run_is_as_uncertain_as_runs_usually_are():
    one = found(steady(1))
    assert (one.runs, one.left_out, one.run_sigma) == (1, 0, 0.01)
    assert math.exp(one.log) == pytest.approx(2.0, rel=0.01)
    assert found(steady(1), relative=True).log == pytest.approx(math.log(2 / 6), abs=0.01)


def test_more_runs_are_more_certain():
    one, two, five = (found(steady(count)).sigma for count in (1, 2, 5))
    assert two == pytest.approx(one / math.sqrt(2), rel=0.15)
    assert five < 0.65 * one


def test_runs_that_scatter_more_than_stated_are_believed():
    wild = found(steady(3, scatter=(0.0, 0.08, -0.08)))
    assert wild.run_sigma == pytest.approx(0.08 * math.sqrt(math.pi / 2) / math.sqrt(3), rel=0.05)
    assert gate(steady(3, 2.2, (0.0, 0.08, -0.08)), max_latency_ms=2.1).checks[0].verdict == "unsure"
    assert gate(steady(3, 2.2), max_latency_ms=2.1).checks[0].verdict == "fail"


def test_a_disturbed_run_among_quiet_ones_does_not_count():
    quiet = (measurement(6.0, noise=0.01, seed=1), measurement(2.0, noise=0.01, seed=2))
    other = (measurement(6.0, noise=0.01, seed=3), measurement(2.0, noise=0.01, seed=4))
    whole = repeated([(drifting(9.0), drifting(3.0)), quiet, other])
    best = found(whole)
    assert (best.runs, best.left_out, best.disturbed) == (2, 1, None)
    assert math.exp(best.log) == pytest.approx(2.0, rel=0.01)
    check = gate(whole, max_latency_ms=2.1).checks[0]
    assert check.verdict == "pass"
    assert check.detail.endswith("over 2 of 3 runs")
    assert why_no_baseline(whole) is None


def test_the_machine_is_no_slower_if_one_run_of_several_was():
    slow = (measurement(9.0, noise=0.01, seed=1), measurement(3.0, noise=0.01, seed=2))
    usual = [(measurement(6.0, noise=0.01, seed=k), measurement(2.0, noise=0.01, seed=k + 50)) for k in (3, 4)]
    now, once = repeated([slow, *usual]), repeated(usual[:1])
    assert now.latency is not None
    assert once.latency is not None
    assert slower_machine(now.latency, once.latency) is None
    assert slower_machine(once.latency, now.latency) is None
    assert slower_machine(repeated([slow]).latency, now.latency) is not None  # type: ignore[arg-type]


def test_disturbed_runs_count_if_they_are_no_minority():
    quiet = (measurement(6.0, noise=0.01, seed=1), measurement(2.0, noise=0.01, seed=2))
    whole = repeated([quiet, (drifting(6.0), drifting(2.0))])
    assert found(whole).disturbed is not None
    assert why_no_baseline(whole) is not None
    assert gate(whole, max_latency_ms=2.0).checks[0].verdict == "unreliable"
    assert gate(whole, max_latency_ms=1.2).checks[0].verdict == "fail"


def run(draw: random.Random, growth: float) -> tuple[Measurement, Measurement]:
    def one(ms: float) -> Measurement:
        run_ms = ms * math.exp(draw.gauss(0, 0.007))
        return of_blocks([run_ms * math.exp(draw.gauss(0, 0.01)) for _ in range(20)])

    return one(6.0), one(2.0 * (1 + growth))


@pytest.mark.parametrize(("growth", "least", "most"), [(0.02, 0.0, 0.01), (0.10, 0.99, 1.0)])
def test_three_runs_give_no_false_alarm_and_miss_no_regression_of_twice_the_limit(
    growth: float, least: float, most: float
):
    draw, failed, trials = random.Random(f"{growth}"), 0, 120
    for _ in range(trials):
        now, then = (repeated([run(draw, by) for _ in range(3)]) for by in (growth, 0.0))
        failed += not gate(now, baseline=then, max_regression=0.05).passed
    assert least <= failed / trials <= most


def test_the_verdict_says_how_many_runs_were_compared():
    one = report(latency=dataclasses.replace(steady(1).latency, repeats=()))  # type: ignore[type-var]
    check = gate(steady(3), baseline=one, max_regression=0.05).checks[0]
    assert check.detail.endswith("in the same run, 3 runs against 1")
