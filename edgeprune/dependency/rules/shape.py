"""Operators that only change the layout of axes: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, Tile."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from edgeprune.dependency.dims import LINEAR, NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.dependency.rules.axis_text import axes
from edgeprune.errors import RuleError
from edgeprune.graph import Dim, constant_target


def factorings(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[list[str], list[str], dict[str, int]]:
    """The axes before and after a reshape as products of common factors.

    Both sides are divided into blocks where their trailing products agree. Within a block, the axes are products of
    common factors if all trailing products of both sides divide one another; else, and if lengths are dynamic, they are
    frozen.

    Returns:
        An axis expression for each axis before and after, and the factors' lengths.
    """
    left, right = [""] * len(before), [""] * len(after)
    sizes: dict[str, int] = {}
    low, high, stop_left, stop_right = 0, 0, len(before), len(after)
    while low < min(stop_left, stop_right) and before[low] is not None and before[low] == after[low]:
        left[low] = right[low] = f"p{low}"
        low += 1
    shorter = min(stop_left, stop_right)
    while shorter - high > low and before[-1 - high] is not None and before[-1 - high] == after[-1 - high]:
        left[-1 - high] = right[-1 - high] = f"s{high}"
        high += 1
    for block, (xs, ys) in enumerate(_blocks(before, after, low, stop_left - high, stop_right - high)):
        lengths = [before[k] for k in xs], [after[k] for k in ys]
        ends = sorted(set(_cuts(lengths[0])) | set(_cuts(lengths[1]))) if _known(lengths) else []
        if not ends or 0 in ends or any(b % a for a, b in itertools.pairwise(ends)):
            for side, ks in ((left, xs), (right, ys)):
                for k in ks:
                    side[k] = f"!{'xy'[side is right]}{k}"
            continue
        sizes.update({f"f{block}_{a}": b // a for a, b in itertools.pairwise(ends)})
        for side, ks, given in ((left, xs, lengths[0]), (right, ys, lengths[1])):
            bounds = _cuts(given)
            for k, top, bottom in zip(ks, bounds, bounds[1:], strict=False):
                names = [f"f{block}_{e}" for e in reversed(ends) if bottom <= e < top]
                side[k] = "1" if not names else names[0] if len(names) == 1 else f"({' '.join(names)})"
    return left, right, sizes


def _known(lengths: tuple[list[Dim], list[Dim]]) -> bool:
    return all(isinstance(d, int) for side in lengths for d in side)


def _cuts(lengths: Sequence[Dim]) -> list[int]:
    """Trailing products, the whole first: (2, 3, 4) gives 24, 12, 4, 1."""
    out = [1]
    for d in reversed(lengths):
        out.append(out[-1] * int(d))  # type: ignore[arg-type]
    return out[::-1]


def _blocks(
    before: Sequence[Dim], after: Sequence[Dim], low: int, i_end: int, j_end: int
) -> list[tuple[list[int], list[int]]]:
    """Smallest blocks of axes, from the end, whose products agree; a single block if a length is dynamic."""
    if not _known((list(before[low:i_end]), list(after[low:j_end]))):
        return [(list(range(low, i_end)), list(range(low, j_end)))]
    blocks: list[tuple[list[int], list[int]]] = []
    i, j = i_end - 1, j_end - 1
    while i >= low or j >= low:
        xs: list[int] = []
        ys: list[int] = []
        p = q = 1
        while not xs or not ys or p != q:
            if i >= low and (not xs or (ys and p < q) or j < low):
                p *= int(before[i] or 0)
                xs.insert(0, i)
                i -= 1
            elif j >= low:
                q *= int(after[j] or 0)
                ys.insert(0, j)
                j -= 1
            else:
                break
        blocks.append((xs, ys))
    return blocks


def _reshape(n: NodeView, operands: int, shape_inputs: tuple[int, ...] = ()) -> Rel:
    left, right, sizes = factorings(n.shape(0), n.out_shape())
    text = f"{' '.join(left)}{', .' * (operands - 1)} -> {' '.join(right)}"
    why = "lengths before and after have no common factors"
    return Rel(text, sizes, zeros=LINEAR, why=why, shape_inputs=shape_inputs)


@rule("Reshape")
def reshape(n: NodeView) -> Rel:
    """Common factors of the shapes before and after."""
    if n.inputs > 1 and constant_target(n.shape(0), n.out_shape()) is None:
        raise RuleError("its target has several dynamic lengths")
    return _reshape(n, 2, (1,))


@repair("Reshape", always=True)
def reshape_target(fix: Repair) -> None:
    """Set the remaining lengths; dynamic ones are copied or left open."""
    given = fix.view.const(1)
    old = constant_target(fix.view.shape(0), fix.view.out_shape())
    if old is None:
        return
    new = [int(fix.out_length(0, k)) if d > 0 else d for k, d in enumerate(old)]
    if new == list(old) and (given is not None or not fix.has_input(1)):
        return
    if fix.has_input(1):
        fix.set_input(1, np.asarray(new, dtype=np.int64))
        fix.drop_attr("allowzero")
    else:
        fix.set_attr("shape", new)


@rule("Flatten", "Squeeze", "Unsqueeze")
def relayout(n: NodeView) -> Rel:
    """As a Reshape, without a target to repair."""
    return _reshape(n, max(n.inputs, 1))


@rule("Transpose")
def transpose(n: NodeView) -> Rel:
    """A permutation of the axes; by default reversed."""
    rank = n.rank(0)
    perm = n.attr("perm", list(range(rank))[::-1])
    return Rel(f"{axes(rank)} -> {' '.join(f'a{k}' for k in perm)}", zeros=LINEAR)


def expand_target(n: NodeView) -> list[int] | None:
    """An Expand's target as a constant, with 1 for a dynamic length that stays; None if it cannot be constant."""
    before, after = n.shape(0), n.out_shape()
    shift = len(after) - len(before)
    out = []
    for k, d in enumerate(after):
        if isinstance(d, int):
            out.append(d)
        elif k >= shift and d is not None and before[k - shift] == d:
            out.append(1)
        else:
            return None
    return out


@rule("Expand")
def expand(n: NodeView) -> Rel:
    """Axes of length one are repeated and become a new factor; the others stay."""
    before, after = n.shape(0), n.out_shape()
    if n.const(1) is None and expand_target(n) is None:
        raise RuleError("its target has dynamic lengths")
    shift = len(after) - len(before)
    result = [f"+r{k}" if k < shift or (before[k - shift] == 1 and d != 1) else f"a{k}" for k, d in enumerate(after)]
    data = ["1" if result[k + shift].startswith("+") else f"a{k + shift}" for k in range(len(before))]
    return Rel(f"{' '.join(data)}, . -> {' '.join(result)}", zeros=LINEAR, shape_inputs=(1,))


@repair("Expand", always=True)
def expand_lengths(fix: Repair) -> None:
    """Set the remaining lengths."""
    old = expand_target(fix.view)
    if old is None:
        return
    new = [int(fix.out_length(0, k)) if d > 1 else d for k, d in enumerate(old)]
    if new != old or fix.view.const(1) is None:
        fix.set_input(1, np.asarray(new, dtype=np.int64))


@rule("Tile")
def tile(n: NodeView) -> Rel:
    """Each axis is repeated as a whole."""
    data, result, sizes = [], [], {}
    for k, times in enumerate(n.ints(1)):
        data.append(f"a{k}")
        result.append(f"a{k}" if times == 1 else f"(!t{k} a{k})")
        if times != 1:
            sizes[f"t{k}"] = times
    return Rel(f"{' '.join(data)}, . -> {' '.join(result)}", sizes, zeros=LINEAR, why="a number of repetitions")
