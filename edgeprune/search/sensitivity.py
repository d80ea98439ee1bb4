"""The loss of each width and each format at the output of the network, measured on a few unlabelled samples.

The error inside a layer says little about the output: a residual branch tolerates errors that a detection head does
not. So each change is tried in the real network, and the change of the *output* is measured
(``edgeprune.recovery.output_error``):

* Widths: every group is cut to a few widths at which its readers are refitted. Between these widths the curve follows
  the loss of the ranking.
* Formats: ranges of consecutive blocks run in INT8 together. A range with almost no error is not split further. A range
  with an error is halved until the blocks that cause it are found. Most networks need tens of trials instead of one for
  each block. A second INT8 format of the same blocks is tried once for all of them, and its error is divided in the
  same proportions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Group
from edgeprune.latency import Format

EXTRAPOLATED = 0.12
"""If the smallest width is below this fraction of a group's size, it is not extrapolated: a width near it is tried."""

MOST_SPLITS = 20
"""Largest number of times that a range of blocks is halved; each time needs two trials."""

MOST_FORMAT_TRIALS = 2 * MOST_SPLITS + 1

NEGLIGIBLE_SHARE = 0.05
"""A range of blocks is not split if it causes less than this share of the error of all blocks together."""


def width_losses(
    groups: Sequence[Group],
    levels: Sequence[NDArray[np.int64]],
    tried: Sequence[Mapping[int, float]],
    ranking_loss: Mapping[str, NDArray[np.float64]],
) -> tuple[NDArray[np.float64], ...]:
    """Loss at the output of every width of every group.

    Args:
        groups: shape (groups,).
        levels: per group, the widths to price, ascending; the last one is the dense width.
        tried: per group, width -> output error of the network with only that group cut and refitted.
        ranking_loss: group id -> shape (size + 1,), predicted loss after removing the first k units.

    Returns:
        Per group, shape (levels,): non-increasing in the width, 0 at the dense width.
    """
    losses = []
    for group, widths, errors in zip(groups, levels, tried, strict=True):
        if len(widths) < 2 or not errors:
            losses.append(np.zeros(len(widths)))
            continue
        measured = {group.size - w: max(error, 0.0) for w, error in sorted(errors.items())}
        curve = np.maximum.accumulate(np.maximum(ranking_loss[group.id], 0.0))
        losses.append(_follow(group.size - widths, measured, curve))
    return tuple(losses)


def tried_widths(size: int, levels: NDArray[np.int64], refitted: Sequence[int]) -> list[int]:
    """The widths of a group that are tried, ascending; ``refitted``: those at which the readers have been refitted."""
    if len(levels) < 2:
        return []
    lowest = levels[: 2 if levels[0] == 0 else 1]  # width 0 may differ much from the smallest one above it
    small = any(0 < w < EXTRAPOLATED * size for w in lowest)
    tried = [w for w in refitted if small or w > 2 * EXTRAPOLATED * size] or [int(levels[-2])]
    return [0, *tried] if levels[0] == 0 else tried


def _follow(
    removed: NDArray[np.int64], measured: Mapping[int, float], curve: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Output loss at each number of removed units: measured, or interpolated by power laws of the ranking's loss."""
    floor = 1e-12 + 1e-6 * float(curve[-1])
    known = sorted(measured)
    x = np.log(curve[known] + floor)
    y = np.log(np.maximum.accumulate([measured[k] for k in known]) + 1e-12)
    wanted = np.log(curve[removed] + floor)
    if len(known) > 1 and x[-1] - x[0] > 1e-6:
        joined = np.interp(wanted, x, y)
        slope = max((y[-1] - y[0]) / (x[-1] - x[0]), 0.0)
    else:
        joined, slope = np.full(len(wanted), y[0]), 1.0
    # Outside the measured range the same power law continues, with a slope of at least one: the loss goes to 0 at 0.
    joined = np.where(wanted < x[0], y[0] + max(slope, 1.0) * (wanted - x[0]), joined)
    joined = np.where(wanted > x[-1], y[-1] + max(slope, 1.0) * (wanted - x[-1]), joined)
    losses = np.where(removed == 0, 0.0, np.exp(joined))
    # Widths ascend, so losses must not: a larger width never has a larger loss.
    return np.asarray(np.maximum.accumulate(losses[::-1])[::-1])


def format_losses(
    formats: Sequence[Sequence[Format]],
    floating: Format,
    alone: Callable[[Mapping[int, Format]], float],
    progress: Callable[[float], None] | None = None,
    twins: Sequence[Sequence[int]] = (),
) -> tuple[dict[Format, float], ...]:
    """Loss at the output of every format of every block.

    Args:
        formats: per block, its possible formats; ``floating`` is one of them and has no loss.
        floating: name of the float format.
        alone: (block -> format, for the blocks that are not float) -> output error.
        progress: called with the fraction done.
        twins: blocks that have the same format; they are tried together, and each has its share of the loss.
    """
    same = {b: blocks for blocks in twins for b in blocks}
    later = {b for blocks in twins for b in blocks[1:]}
    every = formats
    formats = [() if b in later else of for b, of in enumerate(every)]

    def trial(chosen: Mapping[int, Format]) -> float:
        return alone({b: f for first, f in chosen.items() for b in same.get(first, (first,)) if f in every[b]})

    losses: list[dict[Format, float]] = [{floating: 0.0} for _ in formats]
    names = [f for f in dict.fromkeys(f for fs in formats for f in fs) if f != floating]
    shares: dict[int, float] = {}
    for i, name in enumerate(names):
        having = [b for b, fs in enumerate(formats) if name in fs]
        total = trial(dict.fromkeys(having, name))
        if not shares.keys() >= set(having):
            shares |= _attribute(having, name, total, NEGLIGIBLE_SHARE * total, trial)
        known = sum(shares[b] for b in having)
        for b in having:
            losses[b][name] = total * shares[b] / known if known > 0 else total / len(having)
        if progress is not None:
            progress((i + 1) / len(names))
    for blocks in twins:
        each = {name: loss / len(blocks) for name, loss in losses[blocks[0]].items()}
        for b in blocks:
            losses[b] = {name: loss for name, loss in each.items() if name in every[b]}
    return tuple(losses)


def _attribute(
    blocks: Sequence[int], name: Format, error: float, negligible: float, trial: Callable[[Mapping[int, Format]], float]
) -> dict[int, float]:
    """Share of every block in the error of all these blocks together; the ranges with the largest error are halved."""
    ranges = [(error, list(blocks))]
    for _ in range(MOST_SPLITS):
        open_ones = [i for i, (e, found) in enumerate(ranges) if len(found) > 1 and e > negligible]
        if not open_ones:
            break
        worst = max(open_ones, key=lambda i: ranges[i][0])
        _, found = ranges.pop(worst)
        middle = len(found) // 2
        halves = (found[:middle], found[middle:])
        ranges += [(trial(dict.fromkeys(half, name)), half) for half in halves]
    return {b: e / len(found) for e, found in ranges for b in found}
