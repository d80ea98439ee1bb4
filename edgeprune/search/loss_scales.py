"""Factors for the losses, found by trying whole candidates: the scale search of SPDY (Frantar & Alistarh 2022).

Losses that were measured one by one do not add up. Two cuts in a row lose more than the sum of both, and a cut loses
more where INT8 already adds noise. So the losses of every group and block get a factor. The factors are chosen so that
the search finds the candidate with the least *true* output error at equal predicted latency. The result is the factors
and not only the candidate: they stay valid when the budget changes a little.

The search is a (1+1) evolution strategy over the logarithms of the factors. Its first trials change all formats against
all widths; the others change a random tenth of the factors. It makes ``trials`` trials. Each is one forward pass over
the samples of the probe.
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
"""Fraction of the factors that a trial changes."""
STEP = 1.0
"""Standard deviation of the logarithm of a changed factor."""
WIDEN = 1.3
"""Growth of the next step after one that led to a candidate that was tried before."""
WIDEST = 4.0
STEPS_PER_TRIAL = 4
"""Largest number of steps for each trial."""
LARGEST = 8.0
"""Largest absolute value of the logarithm of a factor."""
TOGETHER = (np.log(3.0), -np.log(3.0), 2 * np.log(3.0), -2 * np.log(3.0))
"""First steps: logarithms of a common factor for the losses of all formats."""


@dataclass(frozen=True, eq=False)
class Refined:
    """The result of the trials.

    Attributes:
        problem: with losses times the factors.
        factors: for the losses of every group and then of every block, shape (groups + blocks,).
        candidate: the best candidate that was tried.
        error: its true output error.
        first_error: the true output error of the candidate by the losses without factors.
        trials: how many candidates were tried.
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
    """Find the factors for the losses that lead to the whole candidate with the least error.

    Args:
        problem: with losses that were measured one by one.
        start: the candidate that these losses lead to.
        budget_us: largest predicted latency of a candidate, microseconds.
        error: gives the true output error of a candidate.
        trials: largest number of candidates to try.
        seed: of the random steps.
        progress: called with the fraction done.
        searcher: of the problem, if there is one that has cached latencies already.
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
        scaled = reweighted(problem, factors)
        candidate = searcher.reweighted(scaled).improved(best.candidate, budget_us)
        if candidate.key in known:
            size = min(size * WIDEN, WIDEST)  # the step was too small to lead to a new candidate
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


def reweighted(problem: Problem, factors: NDArray[np.float64]) -> Problem:
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
