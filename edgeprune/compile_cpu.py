"""Compile for a CPU: everything is measured here, on the machine that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from edgeprune.bench import Measurement, ratio
from edgeprune.builder import Builder
from edgeprune.calibrate import Calibration
from edgeprune.closedloop import meet_budget
from edgeprune.cpumodel import Network, lowered, network, observed_ranges
from edgeprune.errors import BudgetError
from edgeprune.importance import rank
from edgeprune.job import Job
from edgeprune.judge import Judge
from edgeprune.latency import Format, Latency
from edgeprune.leastlatency import least_latency
from edgeprune.pricing import price
from edgeprune.profile import measured_latency
from edgeprune.progress import Progress
from edgeprune.search import Choice, Problem
from edgeprune.stand import Stand
from edgeprune.unpruned import best_unpruned

MOST_TIGHTENING = 0.93
"""A disturbed measurement must not make the next attempt give up much more than was missing."""

ATTEMPTS = 3
"""How often a result that just misses its budget in the final measurement is made again, a little faster."""

DEFAULT_MAX_DROP = 1.0


@dataclass(frozen=True)
class Goal:
    """What was asked for: at most one of a latency, a speed-up and the accuracy that may be lost."""

    latency_ms: float | None = None
    speedup: float | None = None
    max_drop: float | None = None
    prune: bool = True
    quantize: bool = True

    @property
    def has_budget(self) -> bool:
        """Whether a latency was asked for."""
        return self.latency_ms is not None or self.speedup is not None

    def budget_us(self, baseline_us: float) -> float | None:
        """Microseconds that the result may take; None where accuracy is the limit."""
        if self.latency_ms is not None:
            return self.latency_ms * 1e3
        return None if self.speedup is None else baseline_us / self.speedup

    def fulfilled(self, original: Measurement, result: Measurement) -> float:
        """How many times as fast as asked for a measured result is; a speed-up is judged by paired blocks."""
        if self.latency_ms is not None:
            return self.latency_ms / result.median_ms
        return float("inf") if self.speedup is None else ratio(original, result).value / self.speedup

    def is_met(self, original: Measurement, result: Measurement) -> bool:
        """Whether a measured result is fast enough."""
        return self.fulfilled(original, result) >= 1


@dataclass(frozen=True, eq=False)
class Compiled:
    """What came out.

    Attributes:
        model: the result.
        choice: its widths and formats; ``latency_us`` is what was predicted before it was measured.
        network: blocks and analysis that the choice refers to.
        builder: what built it.
        latency: the latency model.
        measured: original, result and unpruned variants, in one run.
        variants: the unpruned variants.
        formats: the formats of the variants.
        problem: what there was to choose from, and what each choice is predicted to lose.
    """

    model: ir.Model
    choice: Choice
    network: Network
    builder: Builder
    latency: Latency
    measured: dict[str, Measurement]
    variants: dict[str, ir.Model]
    formats: dict[str, tuple[Format, ...]]
    problem: Problem

    @property
    def baseline_us(self) -> float:
        """Predicted time of the dense float network."""
        return self.variant_choice("fp32").latency_us

    def variant_choice(self, name: str) -> Choice:
        """The choice that an unpruned variant is; the original counts as float."""
        sizes = self.network.sizes
        formats = self.formats.get(name, self.formats["fp32"])
        return Choice(sizes, formats, self.latency.total_us(sizes, formats), 0.0)


def compile_for_cpu(
    job: Job,
    goal: Goal,
    data: Calibration,
    stand: Stand,
    judge: Judge,
    *,
    threads: int,
    weight_bits: int,
    seed: int,
    progress: Progress,
) -> Compiled:
    """Find, build and measure the best network for the goal.

    Raises:
        BudgetError: if the goal can't be met; the text says what can.
    """
    net = network(job.dense, job.analysis, job.fixed)
    latency = measured_latency(net, stand.feeds, stand.runtime, quantizable=goal.quantize, seed=seed, progress=progress)
    with progress.step("ranking units"):
        rankings = rank("obs", job.dense, job.analysis, data, 8, seed) if goal.prune else {}
    builder = Builder(job.dense, net, rankings, data, weight_bits, threads)
    pricing = price(
        job.dense, net, rankings, data, builder, latency, prunable=goal.prune, threads=threads, progress=progress
    )
    problem = pricing.problem(latency)
    run_of = _scored(builder, judge, stand)
    with progress.step("finding the best unpruned variant"):
        unpruned = best_unpruned(problem, run_of, goal.max_drop or DEFAULT_MAX_DROP) if goal.quantize else None
    variants, formats = {"fp32": job.dense}, {"fp32": tuple(_floats(net))}
    if unpruned is not None:
        variants["int8"], formats["int8"] = builder.build(unpruned.widths, unpruned.formats), unpruned.formats
    ranges = observed_ranges(net, stand.feeds) if goal.quantize else {}

    def measure_us(choice: Choice) -> tuple[float, float]:
        before, after = stand.quick(lowered(net, choice.widths, choice.formats, ranges))
        return before.median_ms * 1e3, after.median_ms * 1e3

    make = _Maker(net, builder, problem, variants, formats, stand, progress)
    if not goal.has_budget:
        return _least_latency(make, goal, measure_us, run_of, unpruned)
    return _within_budget(make, goal, measure_us)


@dataclass(frozen=True, eq=False)
class _Maker:
    """Turns choices into measured results."""

    network: Network
    builder: Builder
    problem: Problem
    variants: dict[str, ir.Model]
    formats: dict[str, tuple[Format, ...]]
    stand: Stand
    progress: Progress

    def result(self, choice: Choice, latency: Latency) -> Compiled:
        with self.progress.step("building the result"):
            model = self.builder.build(choice.widths, choice.formats)
        with self.progress.step("measuring the result") as step:
            measured = self.stand.final({"result": model, **self.variants}, step.fraction)
        return Compiled(
            model, choice, self.network, self.builder, latency, measured, self.variants, self.formats, self.problem
        )


def _scored(builder: Builder, judge: Judge, stand: Stand) -> Callable[[Choice], float]:
    def drop(choice: Choice) -> float:
        return judge.drop(stand.runtime.load(builder.build(choice.widths, choice.formats)).run)

    return drop


def _within_budget(make: _Maker, goal: Goal, measure_us: Callable[[Choice], tuple[float, float]]) -> Compiled:
    """The choice of least loss that measures within the budget."""
    problem, tightened = make.problem, 1.0
    missed: Compiled | None = None
    for _ in range(ATTEMPTS):
        with make.progress.step("searching and measuring"):
            met = meet_budget(problem, goal.budget_us, measure_us, tightened)
        result = make.result(met.choice, met.problem.latency)
        original, mine = result.measured["original"], result.measured["result"]
        if goal.is_met(original, mine):
            return result
        missed = result
        tightened *= max(0.995 * goal.fulfilled(original, mine), MOST_TIGHTENING)
        problem = met.problem
    assert missed is not None
    original, mine = missed.measured["original"], missed.measured["result"]
    budget_ms = (goal.budget_us(original.median_ms * 1e3) or 0.0) / 1e3
    raise BudgetError(
        f"the budget of {budget_ms:.3f} ms was not met in {ATTEMPTS} tries: the last took {mine.median_ms:.3f} ms, "
        f"{original.median_ms / mine.median_ms:.2f}x as fast as the original"
    )


def _least_latency(
    make: _Maker,
    goal: Goal,
    measure_us: Callable[[Choice], tuple[float, float]],
    drop: Callable[[Choice], float],
    unpruned: Choice | None,
) -> Compiled:
    """The fastest choice that loses no more than the goal allows, by bisection on the budget."""
    limit = DEFAULT_MAX_DROP if goal.max_drop is None else goal.max_drop
    problem = make.problem
    sizes = problem.latency.sizes
    best = unpruned or Choice(sizes, make.formats["fp32"], problem.latency.total_us(sizes, _floats(make.network)), 0.0)
    if not goal.prune or not len(sizes):
        return make.result(best, problem.latency)
    _, measured_us = measure_us(best)
    problem = replace(problem, latency=problem.latency.corrected(measured_us / best.latency_us))
    best = replace(best, latency_us=measured_us)
    best = least_latency(problem, best, lambda choice: drop(choice) <= limit, make.progress)
    return make.result(best, problem.latency)


def _floats(net: Network) -> list[str]:
    return ["fp32"] * len(net.blocks)
