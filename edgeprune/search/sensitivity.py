"""The loss of each width and each format at the output of the network, measured on a few unlabelled samples.

The error inside a layer says little about the output: a residual branch tolerates errors that a detection head does
not. So each change is tried in the real network, and the change of the *output* is measured
(``edgeprune.recovery.output_error``):

* Widths: every group is cut to a few widths at which its readers are refitted. Between these widths the curve follows
  the loss of the ranking. In a network of which each trial is much work, one width is enough for most groups, and the
  curve is as steep as those of the other groups are.
* Formats: ranges of consecutive blocks run in INT8 together. A range with almost no error is not split further. A range
  with an error is halved until the blocks that cause it are found. Most networks need tens of trials instead of one for
  each block. A second INT8 format of the same blocks is tried once for all of them, and its error is divided in the
  same proportions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration import FORMAT_SPLITS
from edgeprune.dependency import Group
from edgeprune.latency import Format

EXTRAPOLATED = 0.12
"""If the smallest width is below this fraction of a group's size, it is not extrapolated: a width near it is tried."""

THOROUGH = 4
"""If one width is enough, every one of this many groups is tried at all widths."""

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
    curves = {group.id: np.maximum.accumulate(np.maximum(ranking_loss[group.id], 0.0)) for group in groups}
    points = [_points(g.size, errors, curves[g.id]) for g, errors in zip(groups, tried, strict=True)]
    usual = _usual_slope(points, [group.size for group in groups])
    losses = []
    for group, widths, found in zip(groups, levels, points, strict=True):
        if len(widths) < 2 or not len(found[0]):
            losses.append(np.zeros(len(widths)))
        else:
            losses.append(_follow(group.size - widths, *found, curves[group.id], usual))
    return tuple(losses)


def tried_widths(size: int, levels: NDArray[np.int64], refitted: Sequence[int], *, one: bool = False) -> list[int]:
    """The widths of a group that are tried, ascending.

    Args:
        size: units of the group.
        levels: its possible widths.
        refitted: the widths at which the readers have been refitted.
        one: whether one width between the smallest and the dense one is enough.
    """
    if len(levels) < 2:
        return []
    lowest = levels[: 2 if levels[0] == 0 else 1]  # width 0 may differ much from the smallest one above it
    small = any(0 < w < EXTRAPOLATED * size for w in lowest)
    tried = [w for w in refitted if small or w > 2 * EXTRAPOLATED * size] or [int(levels[-2])]
    if one:
        tried = [min(tried, key=lambda w: abs(w - size / 2))]
    return [0, *tried] if levels[0] == 0 else tried


_Points = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]


def _points(size: int, errors: Mapping[int, float], curve: NDArray[np.float64]) -> _Points:
    """Numbers of removed units that were tried, ascending, and the logarithms of the ranking's and output's losses."""
    known = np.array(sorted(size - w for w in errors), np.int64)
    measured = np.maximum.accumulate([max(errors[size - int(k)], 0.0) for k in known]) if len(known) else np.zeros(0)
    return known, np.log(curve[known] + _floor(curve)), np.log(measured + 1e-12)


def _usual_slope(points: Sequence[_Points], sizes: Sequence[int]) -> float:
    """The median exponent of the groups with several tried widths besides 0; 1 if there are none."""
    found = []
    for (known, x, y), size in zip(points, sizes, strict=True):
        partly = known < size
        x, y = x[partly], y[partly]
        if len(x) > 1 and x[-1] - x[0] > 1e-6:
            found.append(float((y[-1] - y[0]) / (x[-1] - x[0])))
    return float(np.median(found)) if found else 1.0


def _floor(curve: NDArray[np.float64]) -> float:
    return 1e-12 + 1e-6 * float(curve[-1])


def _follow(
    removed: NDArray[np.int64],
    known: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    curve: NDArray[np.float64],
    usual: float,
) -> NDArray[np.float64]:
    """Output loss at each number of removed units: measured, or interpolated by power laws of the ranking's loss.

    ``usual``: the exponent where a single width was tried, or one besides the width 0, which is another change.
    """
    wanted = np.log(curve[removed] + _floor(curve))
    if len(x) > 1 and x[-1] - x[0] > 1e-6:
        joined = np.interp(wanted, x, y)
        slope = max((y[-1] - y[0]) / (x[-1] - x[0]), 0.0) if (known < len(curve) - 1).sum() > 1 else usual
    else:
        joined, slope = np.full(len(wanted), y[0]), usual
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
    splits: int = FORMAT_SPLITS.most,
) -> tuple[dict[Format, float], ...]:
    """Loss at the output of every format of every block.

    Args:
        formats: per block, its possible formats; ``floating`` is one of them and has no loss.
        floating: name of the float format.
        alone: (block -> format, for the blocks that are not float) -> output error.
        progress: called with the fraction done.
        twins: blocks that have the same format; they are tried together, and each has its share of the loss.
        splits: largest number of times that a range of blocks is halved; each time needs two trials.
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
            shares |= _attribute(having, name, total, NEGLIGIBLE_SHARE * total, trial, splits)
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
    blocks: Sequence[int],
    name: Format,
    error: float,
    negligible: float,
    trial: Callable[[Mapping[int, Format]], float],
    splits: int,
) -> dict[int, float]:
    """Share of every block in the error of all these blocks together; the ranges with the largest error are halved."""
    ranges = [(error, list(blocks))]
    for _ in range(splits):
        open_ones = [i for i, (e, found) in enumerate(ranges) if len(found) > 1 and e > negligible]
        if not open_ones:
            break
        worst = max(open_ones, key=lambda i: ranges[i][0])
        _, found = ranges.pop(worst)
        middle = len(found) // 2
        halves = (found[:middle], found[middle:])
        ranges += [(trial(dict.fromkeys(half, name)), half) for half in halves]
    return {b: e / len(found) for e, found in ranges for b in found}
