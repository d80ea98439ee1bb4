"""A race between formats of the whole network, which corrects the latency model.

The latency of a block comes from a profile. It was measured with other work around it, and perhaps on another day than
that of the next block. In a network of many small blocks the sum of such errors decides which formats seem fastest. A
few whole networks, timed in turns, show the true latency of all blocks of a format together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration import ArrayCache, Arrays
from edgeprune.latency import INT8, Format, LatencyModel, Network, TimingHarness, lowered
from edgeprune.search.solver import Candidate, Problem, fastest_unpruned
from edgeprune.timing import ratio

ROUNDS = 2
TRUST = 0.05
"""Weight of the model against one race: it decides where a race does not tell which format is predicted wrongly."""
MOST = 2.0
"""The latencies of a format are multiplied or divided by at most this factor against the rest of the model."""


@dataclass(frozen=True, eq=False)
class Raced:
    """A candidate with dense widths, and its measured latency in microseconds."""

    candidate: Candidate
    us: float


def race_formats(
    problem: Problem, latency: LatencyModel, time_us: Callable[[Sequence[Candidate]], Sequence[float]]
) -> tuple[Problem, tuple[Raced, ...]]:
    """Time the network in each single format and in the fastest mix by the model, and correct the model.

    Args:
        problem: with this latency model.
        latency: fitted to blocks.
        time_us: gives the latencies of candidates, timed in turns, in microseconds.

    Returns:
        The problem with the corrected model, and the raced candidates, the fastest first.
    """
    raced: dict[tuple[Format, ...], Raced] = {}
    entrants = [*_uniform(problem, latency), fastest_unpruned(problem)]
    for _ in range(ROUNDS):
        fresh = list({c.formats: c for c in entrants if c.formats not in raced}.values())
        if not fresh or len(fresh) + len(raced) < 2:
            break
        # The best candidate so far races again: it tells how fast the machine is now against the last race.
        best = min(raced.values(), key=lambda r: r.us, default=None)
        times = list(time_us([*fresh, *([best.candidate] if best else [])]))
        pace = 1.0 if best is None else best.us / times[-1]
        raced |= {c.formats: Raced(c, us * pace) for c, us in zip(fresh, times, strict=False)}
        problem = replace(problem, latency=balanced(latency, list(raced.values())))
        entrants = [fastest_unpruned(problem)]
    return problem, tuple(sorted(raced.values(), key=lambda r: r.us))


def balanced(latency: LatencyModel, raced: Sequence[Raced]) -> LatencyModel:
    """The model with a factor for the latencies of each format, and for conversions, so that it fits the races."""
    formats = tuple(latency.theta)
    shares = np.array([_shares(latency, r.candidate, formats) for r in raced])
    times = np.array([r.us for r in raced])
    common = float(np.exp(np.mean(np.log(times / shares.sum(axis=1)))))
    factors = _fit(common * shares / times[:, None])
    theta = {f: common * factor * latency.theta[f] for f, factor in zip(formats, factors, strict=False)}
    constant, per_element = (float(common * factors[-1] * us) for us in latency.switch_us)
    return replace(latency, theta=theta, switch_us=(constant, per_element))


def _fit(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors near 1 that make each row sum to 1: ridge regression towards 1."""
    count = shares.shape[1]
    shortfall = 1 - shares.sum(axis=1)
    change = np.linalg.solve(shares.T @ shares + TRUST * np.eye(count), shares.T @ shortfall)
    return np.asarray(np.clip(1 + change, 1 / MOST, MOST))


def _shares(latency: LatencyModel, candidate: Candidate, formats: Sequence[Format]) -> list[float]:
    """Predicted microseconds of the blocks in each format, and of the conversions between formats."""
    blocks = dict.fromkeys(formats, 0.0)
    for block, fmt in enumerate(candidate.formats):
        blocks[fmt] += latency.block_us(block, fmt, candidate.widths)
    edges = sum(
        latency.edge_us(e, candidate.formats[e.writer], candidate.formats[e.reader], candidate.widths)
        for e in latency.edges
    )
    return [*blocks.values(), edges]


def _uniform(problem: Problem, latency: LatencyModel) -> list[Candidate]:
    """Dense widths with every block in one format; a block without it runs in INT8, or else in float."""
    found = []
    floating = next(f for f in latency.theta if not f.startswith(INT8))
    for wanted in latency.theta:
        near = (floating,) if wanted == floating else (wanted, INT8, floating)
        formats = tuple(next(f for f in near if f in losses) for losses in problem.format_loss)
        loss = sum(losses[f] for losses, f in zip(problem.format_loss, formats, strict=True))
        found.append(Candidate(latency.sizes, formats, latency.total_us(latency.sizes, formats), loss))
    return found


@dataclass(eq=False)
class Race:
    """Times candidates in turns with the original; each set of them is timed once and then cached.

    Attributes:
        net: the network.
        ranges: of its activations.
        harness: times models.
        cache: of the times.
        original_us: the latency of the original in the first race, microseconds; 0 before it.
    """

    net: Network
    ranges: Mapping[str, tuple[float, float]]
    harness: TimingHarness
    cache: ArrayCache
    original_us: float = 0.0

    def __call__(self, candidates: Sequence[Candidate]) -> list[float]:
        """The latencies of candidates, in microseconds."""

        def compute() -> Arrays:
            models = {str(i): lowered(self.net, c.widths, c.formats, self.ranges) for i, c in enumerate(candidates)}
            found = self.harness.quick(models)
            original = found["original"]
            original_us = original.median_ms * 1e3
            us = [original_us / ratio(original, found[i]).value for i in models]
            return {"original": np.array(original_us), "us": np.array(us)}

        formats = [list(c.formats) for c in candidates]
        settings = {"device": self.harness.device, "form": self.net.lowering.form, "formats": formats}
        found = self.cache.arrays("race with original", settings, compute)
        self.original_us = self.original_us or float(found["original"])
        return [float(us) for us in found["us"]]
