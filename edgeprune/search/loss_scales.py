"""Better weights for the losses, found by trying whole choices: the scale search of SPDY (Frantar & Alistarh 2022).

Losses that were measured one by one do not add up: two cuts in a row cost more than their sum, and cuts cost more than
their price where integers already add noise. So the price of every group and block gets a factor, and the factors are
chosen such that the choice which the priced problem leads to has the least *true* error at the output, at equal
predicted time. Factors and not the choice itself are what is found: they stay right when the budget moves a little.

The search is a (1+1) evolution strategy over the logarithms of the factors; its first trials move all widths against
all formats, the others a random tenth. It makes ``trials`` trials, each one forward pass over the probe's samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.problem import Candidate, Problem
from edgeprune.search.solver import Searcher

TRIALS = 40
SHARE = 0.1
"""Of the factors that a trial changes."""
STEP = 1.0
"""Standard deviation of the logarithm of a changed factor."""
WIDEN = 1.3
"""How much larger a step becomes after one that led to a choice that was tried already."""
WIDEST = 4.0
STEPS_PER_TRIAL = 4
"""Steps that are taken for each choice that may be tried."""
LARGEST = 8.0
"""Of the logarithm of a factor, to either side."""
TOGETHER = (np.log(3.0), -np.log(3.0), 2 * np.log(3.0), -2 * np.log(3.0))
"""First steps: how much dearer, as logarithms, all formats become against all widths."""


@dataclass(frozen=True, eq=False)
class Refined:
    """What the trials led to.

    Attributes:
        problem: with losses as the factors have them.
        factors: of the losses of every group and then of every block.
        candidate: the best choice that was tried.
        error: its true error.
        first_error: that of the choice by the losses as they were.
        trials: how many choices were tried.
    """

    problem: Problem
    factors: NDArray[np.float64]
    candidate: Candidate
    error: float
    first_error: float
    trials: int


def refine(
    problem: Problem,
    start: Candidate,
    budget_us: float,
    error: Callable[[Candidate], float],
    *,
    trials: int = TRIALS,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    searcher: Searcher | None = None,
) -> Refined:
    """Find factors for the losses such that whole choices lose least.

    Args:
        problem: with losses as they were priced.
        start: the choice that they lead to.
        budget_us: predicted time that a choice may take.
        error: true error of a choice.
        trials: how many choices are tried at the most.
        seed: of the random steps.
        progress: called with the fraction done.
        searcher: of the problem, if there is one that knows much of its times already.
    """
    rng = np.random.default_rng(seed)
    searcher = searcher or Searcher(problem)
    groups, blocks = len(problem.levels), len(problem.format_loss)
    known = {start.key: error(start)}
    best = Refined(problem, np.ones(groups + blocks), start, known[start.key], known[start.key], 1)
    scales, size = np.zeros(groups + blocks), 1.0
    for step in range(STEPS_PER_TRIAL * trials):
        if len(known) >= trials:
            break
        stepped = np.clip(scales + _step(step, size, groups, blocks, rng), -LARGEST, LARGEST)
        factors = np.exp(stepped)
        scaled = weighed(problem, factors)
        candidate = searcher.weighing(scaled).improved(best.candidate, budget_us)
        if candidate.key in known:
            size = min(size * WIDEN, WIDEST)  # the step was too small to lead anywhere else
            continue
        size = 1.0
        known[candidate.key] = error(candidate)
        if known[candidate.key] < best.error:
            best = replace(best, problem=scaled, factors=factors, candidate=candidate, error=known[candidate.key])
            scales = stepped
        if progress is not None:
            progress(len(known) / trials)
    return replace(best, trials=len(known))


def _step(step: int, size: float, groups: int, blocks: int, rng: np.random.Generator) -> NDArray[np.float64]:
    if step < len(TOGETHER):
        return np.concatenate([np.zeros(groups), np.full(blocks, TOGETHER[step])])
    changed = rng.random(groups + blocks) < max(size * SHARE, 1 / (groups + blocks))
    return np.where(changed, rng.normal(0, size * STEP, groups + blocks), 0.0)


def weighed(problem: Problem, factors: NDArray[np.float64]) -> Problem:
    """The problem with the losses of every group, and then of every block, times these factors."""
    groups = len(problem.levels)
    return replace(
        problem,
        width_loss=tuple(v * f for v, f in zip(problem.width_loss, factors[:groups], strict=True)),
        format_loss=tuple(
            {name: float(v * f) for name, v in losses.items()}
            for losses, f in zip(problem.format_loss, factors[groups:], strict=True)
        ),
    )
