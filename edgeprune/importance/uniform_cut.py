"""A uniform cut: the same share of every axis, in ranking order, rounded to the channel step of the target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Analysis, Cut, Group, Ranking, TiedWidths
from edgeprune.errors import UsageError


def choose(
    analysis: Analysis,
    rankings: Mapping[str, Ranking],
    ratio: float,
    step: int = 1,
    tied: Sequence[TiedWidths] = (),
) -> Cut:
    """Remove ``ratio`` of every axis, least important units first.

    If several groups share an axis, such as ``(head dim)``, the axis is cut along one group first, and along the others
    only as far as needed. The channels inside the groups of a convolution are removed before whole groups: this
    reduces the inputs of every output, not only the number of outputs. Lengths of axes are rounded to multiples of
    ``step`` if they are longer than one step. No group is emptied.

    Args:
        analysis: of the model.
        rankings: group id -> order of removal; groups without one are removed from the end.
        ratio: share of each axis to remove, at least 0 and below 1.
        step: the target's channel step.
        tied: groups that only have these widths, together; the nearest ones are taken.

    Raises:
        UsageError: if the ratio or the step is out of range.
    """
    if not 0 <= ratio < 1:
        raise UsageError(f"--ratio {ratio:g}: expected a number from 0 to below 1")
    if step < 1:
        raise UsageError(f"a channel step of {step} is not positive")
    cut: Cut = {}
    partners = _partners(analysis)
    left: dict[str, float] = {}
    with_others = {analysis.groups[g].id: one for one in tied for g in one.groups}
    settled: dict[str, int] = {}

    def turn(group: Group) -> tuple[int, int]:
        return (int(group.kind == "group"), -len(group.members)) if group.id in partners else (2, 0)

    for group in sorted(analysis.groups, key=turn):
        already = min((left.get(p, 1.0) for p in partners.get(group.id, ())), default=1.0)
        share = 1 - (1 - ratio) / already
        keep = _keep(group, share, step) if share > 0 else group.size
        if one := with_others.get(group.id):
            place = [analysis.groups[g].id for g in one.groups].index(group.id)
            distance = np.abs(one.options[:, place] - (1 - max(share, 0)) * group.size)
            widths = one.options[int(distance.argmin())]  # the nearest, or the smaller of two
            for g, width in zip(one.groups, widths, strict=True):
                settled.setdefault(analysis.groups[g].id, int(width))
        remove = group.size - settled.get(group.id, keep)
        if remove <= 0:
            continue
        order = rankings[group.id].order if group.id in rankings else np.arange(group.size)[::-1]
        cut[group.id] = np.sort(np.asarray(order, dtype=np.int64)[remove:])
        left[group.id] = 1 - remove / group.size
    return cut


def _keep(group: Group, share: float, step: int) -> int:
    """Units that stay if ``share`` is removed: a multiple of the step in axis positions, and at least one unit."""
    if group.kind != "channel":  # heads and groups are removed whole: round down, and cut the partners further
        wanted = group.size - int(share * group.size + 1e-9)
        if group.kind in ("head", "group"):
            return max(wanted, 1)
    positions = max(int(np.bincount(m.unit[m.unit >= 0]).max()) for m in group.members)
    units = max(1, step // math.gcd(positions, step))
    while units > 1 and 2 * units > group.size:
        units //= 2
    steps = math.ceil((1 - share) * group.size / units - 0.5 - 1e-9)  # the nearest, or the smaller of two
    return min(max(steps, 1) * units, group.size)


def _partners(analysis: Analysis) -> dict[str, set[str]]:
    """Group -> groups with which it shares positions: the other factors of an axis such as ``(head dim)``."""
    at: dict[tuple[str, int], list[tuple[str, NDArray[np.int32]]]] = {}
    for group in analysis.groups:
        for m in group.members:
            at.setdefault((m.value, m.axis), []).append((group.id, m.unit))
    out: dict[str, set[str]] = {}
    seen: set[frozenset[int]] = set()
    for several in at.values():
        key = frozenset(id(unit) for _, unit in several)
        if len(several) < 2 or key in seen:
            continue
        seen.add(key)
        for k, (a, unit) in enumerate(several):
            for b, other in several[k + 1 :]:
                if ((unit >= 0) & (other >= 0)).any():
                    out.setdefault(a, set()).add(b)
                    out.setdefault(b, set()).add(a)
    return out
