"""Operators that select, concatenate and pad positions: Concat, Split, Slice, Pad, Gather, Scatter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency.dims import LINEAR, NodeView, Rel, names, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.dependency.rules.axis_text import axes
from edgeprune.lengths import Dim


@rule("Concat")
def concat(n: NodeView) -> Rel:
    """The operands one after another along one axis."""
    rank = len(n.out_shape())
    k = n.axis(n.attr("axis", 1), rank)
    parts = names("c", n.inputs)
    terms = [axes(rank, {k: p}) for p in parts]
    zeros = tuple((j,) for j in range(n.inputs))
    return Rel(f"{', '.join(terms)} -> {axes(rank, {k: _joined(parts)})}", zeros=zeros)


def _joined(parts: Sequence[str]) -> str:
    return f"[{'|'.join(parts)}]"


def _between(k: int, before: int, after: int, mark: str = "") -> tuple[str, dict[str, int]]:
    """Axis ``k`` between parts ``p`` and ``q`` of these lengths, and the lengths; parts of length 0 are left out."""
    parts = [*([f"{mark}p{k}"] if before else []), f"a{k}", *([f"{mark}q{k}"] if after else [])]
    return _joined(parts), {name: size for name, size in ((f"p{k}", before), (f"q{k}", after)) if size}


@rule("Split")
def split(n: NodeView) -> Rel:
    """The reverse of Concat."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    parts = names("c", n.outputs)
    terms = [axes(rank, {k: p}) for p in parts]
    if n.outputs == 1:
        return Rel(f"{axes(rank, {k: 'c0'})}, . -> {terms[0]}", zeros=LINEAR)
    return Rel(f"{axes(rank, {k: _joined(parts)})}, . -> {', '.join(terms)}", zeros=LINEAR)


@repair("Split")
def split_lengths(fix: Repair) -> None:
    """Set the lengths of the remaining parts."""
    k = fix.view.axis(fix.view.attr("axis", 0), fix.view.rank(0))
    if fix.kept(0, k) is None:
        return
    lengths = [int(fix.out_length(j, k)) for j in range(fix.view.outputs)]
    if fix.view.opset < 13:
        fix.set_attr("split", lengths)
    else:
        fix.set_input(1, np.asarray(lengths, dtype=np.int64))
        fix.drop_attr("num_outputs")


def slice_bounds(n: NodeView) -> tuple[list[int], list[Dim], list[Dim], list[Dim]]:
    """Axes, starts, ends and steps of a Slice; a bound that is computed is text or None.

    Raises:
        RuleError: its axes are not constant.
    """
    if n.opset < 10:
        starts, ends = list(n.attr("starts")), list(n.attr("ends"))
        over, steps = n.attr("axes"), None
    else:
        starts, ends = n.lengths(1), n.lengths(2)
        over = n.ints(3) if n.has(3) else None
        steps = n.lengths(4) if n.has(4) else None
    over = [n.axis(int(k), n.rank(0)) for k in (over if over is not None else range(len(starts)))]
    return over, starts, ends, steps or [1] * len(starts)


def slices(n: NodeView) -> dict[int, NDArray[np.int64]]:
    """Axis -> the positions that a Slice selects, for axes of fixed length and constant bounds.

    Raises:
        RuleError: its axes are not constant.
    """
    out = {}
    for k, start, end, step in zip(*slice_bounds(n), strict=False):
        size = n.shape(0)[k]
        if isinstance(size, int) and isinstance(start, int) and isinstance(end, int) and isinstance(step, int):
            low = max(start, -size) if step > 0 else start
            stop = None if step < 0 and end < -size else end
            out[k] = np.arange(size, dtype=np.int64)[slice(low, stop, step)]
    return out


@rule("Slice")
def slice_(n: NodeView) -> Rel:
    """``[p|c|q] -> c`` for steps of one, else selected positions."""
    rank = n.rank(0)
    data: dict[int, str] = {}
    result: dict[int, str] = {}
    sizes: dict[str, int] = {}
    indices: dict[str, NDArray[np.int64]] = {}
    selected = slices(n)
    for k, positions in selected.items():
        size = n.size(0, k)
        if len(positions) == size and (size < 2 or positions[0] == 0):
            continue
        if len(positions) and (np.diff(positions) == 1).all():
            data[k], parts = _between(k, int(positions[0]), size - 1 - int(positions[-1]))
            sizes |= parts
        else:
            indices[f"i{k}"] = positions
            result[k] = f"a{k}@i{k}"
    over = slice_bounds(n)[0]
    for k, d in enumerate(n.shape(0)):
        if not isinstance(d, int) or (k in over and k not in selected):
            data[k], result[k] = f"!x{k}", f"!y{k}"
    terms = [axes(rank, data)] + ["."] * (n.inputs - 1)
    return Rel(f"{', '.join(terms)} -> {axes(rank, result)}", sizes, indices, zeros=LINEAR, why="its length is dynamic")


@repair("Slice")
def new_slice_bounds(fix: Repair) -> None:
    """Set the bounds of the remaining positions; if these are not contiguous, a Gather selects them instead."""
    changed = {
        k: fix.repositioned(p, (0, k), (0, k)) for k, p in slices(fix.view).items() if fix.kept(0, k) is not None
    }
    if not changed:
        return
    plain = {k: p for k, p in changed.items() if len(p) and (np.diff(p) == 1).all()}
    for k in sorted(set(changed) - set(plain)):
        fix.gather_before(k, changed[k])
    n = fix.view
    over, starts, ends, steps = slice_bounds(n)
    for j, k in enumerate(over):
        if k in plain:
            starts[j], ends[j], steps[j] = int(plain[k][0]), int(plain[k][-1]) + 1, 1
        elif k in changed:
            starts[j], ends[j], steps[j] = 0, len(changed[k]), 1
    if n.opset < 10:
        fix.set_attr("starts", starts)
        fix.set_attr("ends", ends)
        return
    for position, values in ((1, starts), (2, ends), (4, steps)):
        if position < 4 or n.has(4):
            fix.set_elements(position, {j: int(str(v)) for j, v in enumerate(values) if over[j] in changed})


def pads(n: NodeView) -> dict[int, tuple[Dim, Dim]]:
    """Axis -> numbers of positions padded before and after; None or text if it is computed.

    Raises:
        RuleError: not even the number of axes is known.
    """
    rank = n.rank(0)
    given = list(n.attr("pads") or n.attr("paddings")) if n.opset < 11 else n.lengths(1)
    over = [n.axis(k, rank) for k in n.ints(3)] if n.opset >= 11 and n.has(3) else list(range(rank))
    half = len(given) // 2
    return {k: (given[j], given[half + j]) for j, k in enumerate(over)}


@rule("Pad")
def pad(n: NodeView) -> Rel:
    """``c -> [p|c|q]``; in modes other than constant, padding repeats positions and the axis is frozen."""
    rank = n.rank(0)
    constant = n.attr("mode", "constant") == "constant"
    filler = n.attr("value", 0.0) if n.opset < 11 else (n.const(2) if n.has(2) else 0.0)
    data: dict[int, str] = {}
    result: dict[int, str] = {}
    sizes: dict[str, int] = {}
    for k, (before, after) in pads(n).items():
        if before == after == 0:
            continue
        fixed = constant and isinstance(n.shape(0)[k], int)
        if fixed and isinstance(before, int) and isinstance(after, int) and before >= 0 and after >= 0:
            result[k], parts = _between(k, before, after, "+")
            sizes |= parts
        else:
            data[k], result[k] = f"!x{k}", f"!y{k}"
    text = f"{', '.join([axes(rank, data)] + ['.'] * (n.inputs - 1))} -> {axes(rank, result)}"
    zero = filler is not None and not np.any(np.asarray(filler))
    return Rel(text, sizes, zeros=LINEAR if zero else None, why="padded by its own positions")


@repair("Pad")
def pad_amounts(fix: Repair) -> None:
    """Set the numbers of remaining padded positions."""
    n = fix.view
    amounts = pads(n)
    changed: dict[int, int] = {}
    for j, (k, (before, after)) in enumerate(amounts.items()):
        kept = fix.out_kept(0, k)
        if kept is not None and isinstance(before, int) and isinstance(after, int) and (before or after):
            size = before + n.size(0, k)
            changed |= {j: int((kept < before).sum()), j + len(amounts): int((kept >= size).sum())}
    if changed and n.opset < 11:
        values = [before for before, _ in amounts.values()] + [after for _, after in amounts.values()]
        fix.set_attr("pads", [changed.get(j, value) for j, value in enumerate(values)])
    elif changed:
        fix.set_elements(1, changed)


@rule("Gather")
def gather(n: NodeView) -> Rel:
    """Constant positions are selected; run-time indices freeze their axis."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    index = n.const(1)
    size = n.shape(0)[k]
    inner = n.rank(1)
    why = "indexed by position at run time" if index is None else "indexed by position"
    rest = axes(rank)
    left, right = rest.split()[:k], rest.split()[k + 1 :]
    fixed = index is not None and inner <= 1 and isinstance(size, int)
    if (
        index is None
        or not isinstance(size, int)
        or not fixed
        or (index.size and not (-size <= index.min() and index.max() < size))
    ):
        result = " ".join([*left, *(f"!g{j}" for j in range(inner)), *right])
        return Rel(f"{axes(rank, {k: '!x'})}, . -> {result}", zeros=LINEAR, why=why)
    positions = np.asarray(index, dtype=np.int64) % size
    if inner == 1:
        return Rel(f"{rest}, . -> {' '.join([*left, f'a{k}@i', *right])}", indices={"i": positions}, zeros=LINEAR)
    before, after = int(positions), size - 1 - int(positions)
    parts = [p for p, length in (("p", before), ("!c", 1), ("q", after)) if length]
    sizes = {"c": 1} | ({"p": before} if before else {}) | ({"q": after} if after else {})
    return Rel(f"{axes(rank, {k: _joined(parts)})}, . -> {' '.join([*left, *right])}", sizes, zeros=LINEAR, why=why)


@repair("Gather")
def gather_indices(fix: Repair) -> None:
    """Set the new indices of the selected positions."""
    n = fix.view
    k = n.axis(n.attr("axis", 0), n.rank(0))
    index = n.const(1)
    if index is None or fix.kept(0, k) is None:
        return
    positions = np.asarray(index, dtype=np.int64) % n.size(0, k)
    out = (0, k) if positions.ndim == 1 else None
    fix.set_input(1, fix.repositioned(positions, (0, k), out).astype(index.dtype))


@rule("GatherElements")
def gather_elements(n: NodeView) -> Rel:
    """Indices select along one axis; the other axes pass if the shapes agree."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    inner = axes(rank, {k: "!y"})
    return Rel(f"{axes(rank, {k: '!x'})}, {inner} -> {inner}", zeros=LINEAR, why="indexed at run time")


@rule("Compress")
def compress(n: NodeView) -> Rel:
    """A condition selects along one axis; the other axes pass."""
    rank, axis = n.rank(0), n.attr("axis", None)
    if axis is None:
        return Rel(f"{' '.join(f'!x{k}' for k in range(rank))}, . -> !y", zeros=LINEAR, why="selected at run time")
    k = n.axis(axis, rank)
    return Rel(f"{axes(rank, {k: '!x'})}, . -> {axes(rank, {k: '!y'})}", zeros=LINEAR, why="selected at run time")


@rule("GatherND")
def gather_nd(n: NodeView) -> Rel:
    """Trailing axes without an index pass."""
    rank, batch, indices = n.rank(0), n.attr("batch_dims", 0), n.rank(1)
    last = n.size(1, indices - 1)
    tail = rank - batch - last
    passed = [f"t{k}" for k in range(tail)]
    data = " ".join([*(f"!x{k}" for k in range(rank - tail)), *passed])
    result = " ".join([*(f"!y{k}" for k in range(indices - 1)), *passed])
    return Rel(f"{data}, . -> {result}", zeros=LINEAR, why="indexed at run time")


@rule("ScatterND")
def scatter_nd(n: NodeView) -> Rel:
    """Trailing axes without an index pass, in the data and in the update."""
    rank, indices = n.rank(0), n.rank(1)
    tail = rank - n.size(1, indices - 1)
    passed = [f"t{k}" for k in range(tail)]
    data = " ".join([*(f"!x{k}" for k in range(rank - tail)), *passed])
    update = " ".join([*(f"!u{k}" for k in range(indices - 1)), *passed])
    return Rel(f"{data}, ., {update} -> {data}", zeros=((0,), (2,)), why="written at run time")
