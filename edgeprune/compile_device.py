"""Compile for a GPU that is not at hand: everything is predicted, and the prediction's error is kept back as margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.analyticmodel import INT8
from edgeprune.arraycache import ArrayCache
from edgeprune.backends import simulation
from edgeprune.calibrate import Calibration
from edgeprune.errors import BudgetError, TargetError, UsageError
from edgeprune.goal import DEFAULT_MAX_DROP, Goal
from edgeprune.gpunetwork import GpuNetwork, gpu_network
from edgeprune.job import Job
from edgeprune.judge import Judge
from edgeprune.latency import Format
from edgeprune.leastlatency import least_latency
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.predict import model_latency_us
from edgeprune.pricing import price
from edgeprune.progress import Progress
from edgeprune.rankings import rankings_of
from edgeprune.search import Choice, Problem, fastest, search
from edgeprune.targets import Profile
from edgeprune.tensorrtbuilder import TensorRtBuilder
from edgeprune.unpruned import best_unpruned, mildest_unpruned

NEVER_SLOWER = 1.02
"""A pruned network must be predicted so many times as fast as the best unpruned variant, or that variant comes back."""

STRONGLY_TYPED = (10, 0)
NEWEST = "11.0"
OLDEST = (8, 5)
_WITHOUT_ERROR = 1.0


@dataclass(frozen=True, eq=False)
class Planned:
    """What came out.

    Attributes:
        model: lowered for TensorRT.
        choice: its widths and formats, with the time that is predicted for it.
        gpu: launches and latency model that the choice refers to.
        builder: what built it.
        baseline_us: predicted time of the original, in float32.
        variants: unpruned alternatives by float type or ``int8``.
        gain: how many times as fast as the best of these the choice is predicted to be.
        cut: whether anything was removed.
        margin: what the budget was divided by.
        notes: sentences for people.
        problem: what there was to choose from, and what each choice is predicted to lose.
    """

    model: ir.Model
    choice: Choice
    gpu: GpuNetwork
    builder: TensorRtBuilder
    baseline_us: float
    variants: dict[str, Choice]
    gain: float
    cut: bool
    margin: float
    notes: tuple[str, ...]
    problem: Problem


def formats_of(precision: str, profile: Profile) -> tuple[Format, ...]:
    """Formats that a launch may take, the float one first: 16 bits unless float32 is asked for, and INT8 beside it."""
    floating = "fp16" if precision != "fp32" and "fp16" in profile.precisions else "fp32"
    integers = precision in ("auto", "int8") and INT8 in profile.precisions
    return (floating, INT8) if integers else (floating,)


def versions_of(profile: Profile) -> tuple[str, ...]:
    """TensorRT versions that a lowered graph must suit.

    From 10 on graphs are strongly typed, and one that suits them suits 11; devices that stay on 8.x get a graph that
    all of theirs take.

    Raises:
        TargetError: the device's TensorRT is too old for a graph that states its precision.
    """
    known = {tuple(int(part) for part in text.split(".")[:2]): text for text in profile.tensorrt}
    if strong := [text for version, text in known.items() if version >= STRONGLY_TYPED]:
        return (*strong, NEWEST)
    if typed := [text for version, text in known.items() if version >= OLDEST]:
        return tuple(typed)
    have = ", ".join(profile.tensorrt) or "none"
    raise TargetError(f"target {profile.name} has TensorRT {have}; graphs that state their precision need 8.5 or newer")


def check_sparsity(sparsity: str, profile: Profile) -> None:
    """Refuse 2:4, which nothing here can make yet.

    Raises:
        UsageError: it was asked for.
    """
    if sparsity == "2:4":
        raise UsageError(
            f"--sparsity 2:4 is not available for target {profile.name}: no 2:4 latency was measured there, and "
            "weights cannot be made 2:4 yet; leave it out"
        )


def compile_for_device(
    job: Job,
    goal: Goal,
    precision: str,
    data: Calibration,
    judge: Judge,
    profile: Profile,
    known: ArrayCache,
    *,
    power_mode: str | None,
    threads: int,
    seed: int,
    progress: Progress,
) -> Planned:
    """Find and build the best network for the goal, by the profile's predictions.

    Raises:
        BudgetError: if the goal can't be met, by the prediction and its error; the text says what can.
        TargetError: the device is too old, or has no such power mode.
        ModelError: the model cannot be described or lowered.
    """
    device, versions = profile.device(power_mode), versions_of(profile)
    formats = formats_of(precision, profile)
    error = profile.error.median if profile.error else _WITHOUT_ERROR
    with progress.step("predicting launches"):
        fixed = canonicalize(job.fixed, verify=False)
        step = profile.channel_step(INT8 if precision == "int8" else formats[0])
        gpu = gpu_network(fixed, job.analysis, device, formats, step=step, error=error)
        dense = model_latency_us(fixed, profile, "fp32", power_mode=power_mode)
        _check_reachable(gpu, goal, dense.latency_ms * 1e3, 1 + error)
    with progress.step("ranking units"):
        rankings = rankings_of(job, data, known, seed) if goal.prune else {}
    builder = TensorRtBuilder(
        job.dense, gpu.network, rankings, data, threads=threads, float_format=formats[0], versions=versions
    )
    problem = price(
        job.dense,
        gpu.network,
        rankings,
        data,
        builder,
        gpu.latency,
        prunable=goal.prune,
        threads=threads,
        progress=progress,
        known=known,
        levels=gpu.levels,
    ).problem(gpu.latency)

    def drop(choice: Choice) -> float:
        return judge.drop(simulation.load(builder.build(choice.widths, choice.formats), threads).run)

    limit = DEFAULT_MAX_DROP if goal.max_drop is None else goal.max_drop
    with progress.step("finding the best unpruned variant"):
        variants = _variants(problem, drop, limit, formats)
    baseline_us, notes = dense.latency_ms * 1e3, list(dense.outside)
    chosen = _choose(problem, goal, variants, drop, limit, baseline_us, 1 + error, formats, progress)
    best = min(variants.values(), key=lambda c: c.latency_us)
    gain = best.latency_us / chosen.latency_us
    cut = bool((chosen.widths < gpu.latency.sizes).any())
    if cut and gain < NEVER_SLOWER and best.latency_us <= _allowed_us(goal, baseline_us, 1 + error):
        notes.append(
            f"pruning does not pay here: the pruned network is predicted {gain:.2f}x as fast as the best unpruned "
            "variant, which is returned"
        )
        chosen, gain, cut = best, 1.0, False
    with progress.step("building the result"):
        model = builder.build(chosen.widths, chosen.formats)
    return Planned(
        model,
        chosen,
        gpu,
        builder,
        baseline_us,
        variants,
        gain,
        cut,
        1 + error if goal.has_budget else 1.0,
        tuple(notes),
        problem,
    )


def _variants(
    problem: Problem, drop: Callable[[Choice], float], limit: float, formats: tuple[Format, ...]
) -> dict[str, Choice]:
    """The unpruned network in float, and in integers where that costs no more than the limit."""
    found = {formats[0]: _unpruned(problem, formats[0])}
    if INT8 in formats and (integers := best_unpruned(problem, drop, limit)) is not None:
        found[INT8] = integers
    return found


def _unpruned(problem: Problem, floating: Format) -> Choice:
    sizes = problem.latency.sizes
    names = [floating] * len(problem.format_loss)
    return Choice(sizes, tuple(names), problem.latency.total_us(sizes, names), 0.0)


def _choose(
    problem: Problem,
    goal: Goal,
    variants: dict[str, Choice],
    drop: Callable[[Choice], float],
    limit: float,
    baseline_us: float,
    margin: float,
    formats: tuple[Format, ...],
    progress: Progress,
) -> Choice:
    if goal.has_budget:
        return search(problem, _allowed_us(goal, baseline_us, margin))
    best = min(variants.values(), key=lambda c: c.latency_us)
    if goal.prune and len(problem.latency.sizes):
        return least_latency(problem, best, lambda c: drop(c) <= limit, progress)
    if INT8 in formats and INT8 not in variants and goal.max_drop is None:
        # INT8 was asked for, without a limit: the form that costs least, and what it costs is said in the report.
        return mildest_unpruned(problem, drop) or best
    return best


def _allowed_us(goal: Goal, baseline_us: float, margin: float) -> float:
    """What the prediction may say so that the device keeps the budget although the prediction is off."""
    budget_us = goal.budget_us(baseline_us)
    return float("inf") if budget_us is None else budget_us / margin


def _check_reachable(gpu: GpuNetwork, goal: Goal, baseline_us: float, margin: float) -> None:
    """Refuse a budget that nothing can meet before any work is done for it.

    Raises:
        BudgetError: the text says what can be met.
    """
    if not goal.has_budget:
        return
    latency = gpu.latency
    free = Problem(
        latency,
        gpu.levels,
        tuple(np.zeros(len(v)) for v in gpu.levels),
        tuple(dict.fromkeys(latency.formats(b), 0.0) for b in range(len(latency.launches))),
    )
    least_us, allowed_us = fastest(free).latency_us, _allowed_us(goal, baseline_us, margin)
    if least_us > allowed_us:
        raise BudgetError(
            f"the budget of {allowed_us * margin / 1e3:.3f} ms can't be met: with the profile's error as margin "
            f"{allowed_us / 1e3:.3f} ms may be predicted, and the fastest network is predicted to take "
            f"{least_us / 1e3:.3f} ms, {baseline_us / least_us:.2f}x as fast as the original "
            f"({baseline_us / 1e3:.3f} ms); --latency-ms {np.ceil(least_us * margin) / 1e3:.3f} can be met"
        )
