"""Operators that only change the layout of axes: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, Tile."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from edgeprune import lengths
from edgeprune.dependency.dims import LINEAR, NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.dependency.rules.axis_text import axes
from edgeprune.graph import constant_target, dim_keys, elements_of
from edgeprune.lengths import Dim, StandIns


def factorings(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[list[str], list[str], dict[str, int | str]]:
    """The axes before and after a reshape as products of common factors.

    Both sides are divided into blocks where their trailing products agree. Within a block, the axes are products of
    common factors if all trailing products of both sides divide one another; else, and if a length is unknown, they are
    frozen. Open lengths are polynomials: ``[65, n, 64]`` and ``[65, 4*n, 16]`` have the factors n, 4 and 16.

    Returns:
        An axis expression for each axis before and after, and the factors' lengths.
    """
    before, after = agreeing(before, after)
    left, right = [""] * len(before), [""] * len(after)
    sizes: dict[str, int | str] = {}
    low, high, stop_left, stop_right = 0, 0, len(before), len(after)
    while low < min(stop_left, stop_right) and before[low] is not None and before[low] == after[low]:
        left[low] = right[low] = f"p{low}"
        low += 1
    shorter = min(stop_left, stop_right)
    while shorter - high > low and before[-1 - high] is not None and before[-1 - high] == after[-1 - high]:
        left[-1 - high] = right[-1 - high] = f"s{high}"
        high += 1
    for block, (xs, ys) in enumerate(_blocks(before, after, low, stop_left - high, stop_right - high)):
        lengths_of = [before[k] for k in xs], [after[k] for k in ys]
        ends = _ends(*lengths_of)
        if not ends:
            for side, ks in ((left, xs), (right, ys)):
                for k in ks:
                    side[k] = f"!{'xy'[side is right]}{k}"
            continue
        names = [f"f{block}_{end if isinstance(end, int) else f'o{k}'}" for k, end in enumerate(ends[:-1])]
        for name, (small, large) in zip(names, itertools.pairwise(ends), strict=True):
            size = lengths.divide(large, small)
            assert size is not None
            sizes[name] = size
        for side, ks, given in ((left, xs, lengths_of[0]), (right, ys, lengths_of[1])):
            bounds = [ends.index(cut) for cut in _cuts(given)]
            for k, top, bottom in zip(ks, bounds, bounds[1:], strict=False):
                own = names[bottom:top][::-1]
                side[k] = "1" if not own else own[0] if len(own) == 1 else f"({' '.join(own)})"
    return left, right, sizes


def agreeing(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[Sequence[Dim], Sequence[Dim]]:
    """The shapes before and after a reshape, with one open length replaced if they would differ in their elements.

    A reshape keeps the number of elements: ``[n, 196, 64] -> [1, 196, 4, 16]`` only runs where n is 1, and
    ``[2, 2*(h//2), 4] -> [2, h, 2, 2]`` only where h is even.
    """
    wholes = lengths.product(before), lengths.product(after)
    if None in wholes or 0 in wholes or wholes[0] == wholes[1]:
        return before, after
    for given, other, whole in ((before, after, wholes[1]), (after, before, wholes[0])):
        for k, d in enumerate(given):
            rest = lengths.product([*given[:k], *given[k + 1 :]])
            true = lengths.divide(whole, rest) if lengths.is_divisible(whole, rest) else None
            if not isinstance(d, int) and (isinstance(true, int) or true in other) and true is not None:
                found = [*given[:k], true, *given[k + 1 :]]
                return (found, after) if given is before else (before, found)
    return before, after


def _cuts(given: Sequence[Dim]) -> list[Dim]:
    """Trailing products, the whole first: (2, 3, 4) gives 24, 12, 4, 1."""
    out: list[Dim] = [1]
    for d in reversed(given):
        out.append(lengths.multiply(out[-1], d))
    return out[::-1]


def _ends(before: Sequence[Dim], after: Sequence[Dim]) -> list[Dim]:
    """The trailing products of both sides in increasing order; empty if one does not divide the next."""
    cuts = list(dict.fromkeys([*_cuts(before), *_cuts(after)]))
    if None in cuts or 0 in cuts:
        return []
    number = StandIns().number
    cuts.sort(key=lambda cut: number(cut) or 0)
    return cuts if all(lengths.is_divisible(b, a) for a, b in itertools.pairwise(cuts)) else []


def _blocks(
    before: Sequence[Dim], after: Sequence[Dim], low: int, i_end: int, j_end: int
) -> list[tuple[list[int], list[int]]]:
    """Smallest blocks of axes, from the end, whose products agree; a single block if a length is unknown."""
    if None in (*before[low:i_end], *after[low:j_end]):
        return [(list(range(low, i_end)), list(range(low, j_end)))]
    number = StandIns().number
    blocks: list[tuple[list[int], list[int]]] = []
    i, j = i_end - 1, j_end - 1
    while i >= low or j >= low:
        xs: list[int] = []
        ys: list[int] = []
        p: Dim = 1
        q: Dim = 1
        while not xs or not ys or p != q:
            if i >= low and (not xs or (ys and (number(p) or 0) < (number(q) or 0)) or j < low):
                p = lengths.multiply(p, before[i])
                xs.insert(0, i)
                i -= 1
            elif j >= low:
                q = lengths.multiply(q, after[j])
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
    return _reshape(n, 2, (1,))


@repair("Reshape", always=True)
def reshape_target(fix: Repair) -> None:
    """Set the remaining lengths; open ones are copied, left over, or computed as before."""
    if not _has_shapes(fix):
        return
    given = fix.view.const(1)
    old = constant_target(fix.view.shape(0), fix.view.out_shape())
    if old is None:
        computed_target(fix)
        return
    new = [int(fix.out_length(0, k)) if d > 0 else d for k, d in enumerate(old)]
    if new == list(old) and (given is not None or not fix.has_input(1)):
        return
    if fix.has_input(1):
        fix.set_input(1, np.asarray(new, dtype=np.int64))
        fix.drop_attr("allowzero")
    else:
        fix.set_attr("shape", new)


def _has_shapes(fix: Repair) -> bool:
    """Whether the ranks before and after are known; if not, the node is frozen, and its target stays as it is."""
    return None not in (fix.node.inputs[0], dim_keys(fix.node.inputs[0]), dim_keys(fix.node.outputs[0]))


def computed_target(fix: Repair) -> None:
    """Change the elements of a target that stays computed: known lengths that change, and shares of open ones."""
    source = fix.node.inputs[1]
    if source is None or fix.view.const(1) is not None:
        return
    elements = elements_of(source, {})
    new: dict[int, int] = {}
    shares: dict[int, tuple[int, int]] = {}
    for k, d in enumerate(fix.view.out_shape()):
        kept = fix.out_kept(0, k)
        if kept is None or (elements is not None and elements.ndim == 1 and elements[k] in (0, -1)):
            continue
        if isinstance(d, int):
            new[k] = len(kept)
        else:
            shares[k] = (len(kept), fix.out_whole(0, k))
    fix.replace_elements(1, new, shares)


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
    shift = len(after) - len(before)
    result = [f"+r{k}" if k < shift or (before[k - shift] == 1 and d != 1) else f"a{k}" for k, d in enumerate(after)]
    data = ["1" if result[k + shift].startswith("+") else f"a{k + shift}" for k in range(len(before))]
    return Rel(f"{' '.join(data)}, . -> {' '.join(result)}", zeros=LINEAR, shape_inputs=(1,))


@repair("Expand", always=True)
def expand_lengths(fix: Repair) -> None:
    """Set the remaining lengths."""
    if not _has_shapes(fix):
        return
    old = expand_target(fix.view)
    if old is None:
        computed_target(fix)
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
