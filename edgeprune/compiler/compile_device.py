"""Compile for a GPU that is not at hand: everything is predicted, and the prediction's error is kept back as margin."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.compiler.devicework import DeviceWork, allowed_us
from edgeprune.latency import INT8
from edgeprune.search import Candidate, Goal, least_latency, mildest_unpruned, search

NEVER_SLOWER = 1.02
"""A pruned network must be predicted so many times as fast as the best unpruned variant, or that variant comes back."""


@dataclass(frozen=True, eq=False)
class Planned:
    """What came out.

    Attributes:
        model: lowered for TensorRT.
        candidate: its widths and formats, with the time that is predicted for it.
        variants: unpruned alternatives by float type or ``int8``.
        gain: how many times as fast as the best of these the choice is predicted to be.
        cut: whether anything was removed.
        margin: what the budget was divided by.
        notes: sentences for people.
    """

    model: ir.Model
    candidate: Candidate
    variants: dict[str, Candidate]
    gain: float
    cut: bool
    margin: float
    notes: tuple[str, ...]


def plan_for_device(work: DeviceWork, goal: Goal) -> Planned:
    """Find and build the best network for the goal, by what is predicted.

    Raises:
        BudgetError: if the goal can't be met, by the prediction and its error; the text says what can.
    """
    margin = 1 + work.latency.error
    with work.progress.step("finding the best unpruned variant"):
        variants = work.variants(goal.drop_limit)
    best = min(variants.values(), key=lambda c: c.latency_us)
    within_us, notes = allowed_us(goal, work.baseline_us, margin), list(work.notes)
    if goal.has_budget and best.latency_us <= within_us:
        # Whatever is cut would have to be faster still, and a budget that is met is no reason to lose more for.
        chosen = search(work.uncut, within_us)
    else:
        chosen = choose(work, goal, variants, within_us)
    gain = best.latency_us / chosen.latency_us
    cut = is_cut(work, chosen)
    if cut and gain < NEVER_SLOWER and best.latency_us <= within_us:
        notes.append(
            f"pruning does not pay here: the pruned network is predicted {gain:.2f}x as fast as the best unpruned "
            "variant, which is returned"
        )
        chosen, gain, cut = best, 1.0, False
    if cut:
        work.recover(chosen)
    with work.progress.step("building the result"):
        model = work.builder.build(chosen.widths, chosen.formats)
    return Planned(model, chosen, variants, gain, cut, margin if goal.has_budget else 1.0, tuple(notes))


def choose(work: DeviceWork, goal: Goal, variants: dict[str, Candidate], within_us: float) -> Candidate:
    """The choice of least loss within a time; without a budget the fastest that loses little enough."""
    problem = work.problem
    if goal.has_budget:
        return search(problem, within_us)
    best = min(variants.values(), key=lambda c: c.latency_us)
    if goal.prune and len(problem.latency.sizes):
        return least_latency(problem, best, lambda c: work.drop(c) <= goal.drop_limit, work.progress)
    if INT8 not in variants and goal.max_drop is None and goal.quantize and work.options.precision == INT8:
        # INT8 was asked for, without a limit: the form that costs least, and what it costs is said in the report.
        best = mildest_unpruned(work.dense_problem, work.drop) or best
    return work.sparsified(best)


def is_cut(work: DeviceWork, candidate: Candidate) -> bool:
    """Whether the choice removes anything."""
    return bool((candidate.widths < work.latency.sizes).any())
