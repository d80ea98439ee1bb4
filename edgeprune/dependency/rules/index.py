"""Operators that pick, join and pad positions: Concat, Split, Slice, Pad, Gather, Scatter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency.dims import LINEAR, NodeView, Rel, names, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.dependency.rules.axis_text import axes


@rule("Concat")
def concat(n: NodeView) -> Rel:
    """Operands one after another along one axis."""
    rank = len(n.out_shape())
    k = n.axis(n.attr("axis", 1), rank)
    parts = names("c", n.inputs)
    terms = [axes(rank, {k: p}) for p in parts]
    return Rel(
        f"{', '.join(terms)} -> {axes(rank, {k: '[' + '|'.join(parts) + ']'})}",
        zeros=tuple((j,) for j in range(n.inputs)),
    )


@rule("Split")
def split(n: NodeView) -> Rel:
    """The reverse of Concat."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    parts = names("c", n.outputs)
    terms = [axes(rank, {k: p}) for p in parts]
    if n.outputs == 1:
        return Rel(f"{axes(rank, {k: 'c0'})}, . -> {terms[0]}", zeros=LINEAR)
    return Rel(f"{axes(rank, {k: '[' + '|'.join(parts) + ']'})}, . -> {', '.join(terms)}", zeros=LINEAR)


@repair("Split")
def split_lengths(fix: Repair) -> None:
    """The lengths of the parts that are left."""
    k = fix.view.axis(fix.view.attr("axis", 0), fix.view.rank(0))
    if fix.kept(0, k) is None:
        return
    lengths = [int(fix.out_length(j, k)) for j in range(fix.view.outputs)]
    if fix.view.opset < 13:
        fix.set_attr("split", lengths)
    else:
        fix.set_input(1, np.asarray(lengths, dtype=np.int64))
        fix.drop_attr("num_outputs")


def slices(n: NodeView) -> dict[int, NDArray[np.int64]] | None:
    """Axis -> the positions that a Slice picks, for axes of fixed length; None in place of a dynamic one is left out.

    Raises:
        RuleError: if the bounds are not constant.
    """
    rank = n.rank(0)
    if n.opset < 10:
        starts, ends = list(n.attr("starts")), list(n.attr("ends"))
        over, steps = n.attr("axes"), None
    else:
        starts, ends = n.ints(1), n.ints(2)
        over = n.ints(3) if n.has(3) else None
        steps = n.ints(4) if n.has(4) else None
    over = [n.axis(int(k), rank) for k in (over if over is not None else range(len(starts)))]
    steps = steps or [1] * len(starts)
    out = {}
    for k, start, end, step in zip(over, starts, ends, steps, strict=False):
        size = n.shape(0)[k]
        if isinstance(size, int):
            low = max(start, -size) if step > 0 else start
            stop = None if step < 0 and end < -size else end
            out[k] = np.arange(size, dtype=np.int64)[slice(low, stop, step)]
    return out


@rule("Slice")
def slice_(n: NodeView) -> Rel:
    """``[p|c|q] -> c`` for steps of one, picked positions otherwise."""
    rank = n.rank(0)
    picked = slices(n) or {}
    data: dict[int, str] = {}
    result: dict[int, str] = {}
    sizes: dict[str, int] = {}
    indices: dict[str, NDArray[np.int64]] = {}
    for k, positions in picked.items():
        size = n.size(0, k)
        if len(positions) == size and (size < 2 or positions[0] == 0):
            continue
        if len(positions) and (np.diff(positions) == 1).all():
            before, after = int(positions[0]), size - 1 - int(positions[-1])
            sizes |= {f"p{k}": before} if before else {}
            sizes |= {f"q{k}": after} if after else {}
            data[k] = "[" + "|".join(([f"p{k}"] if before else []) + [f"a{k}"] + ([f"q{k}"] if after else [])) + "]"
        else:
            indices[f"i{k}"] = positions
            result[k] = f"a{k}@i{k}"
    for k, d in enumerate(n.shape(0)):
        if not isinstance(d, int):
            data[k], result[k] = f"!x{k}", f"!y{k}"
    terms = [axes(rank, data)] + ["."] * (n.inputs - 1)
    return Rel(f"{', '.join(terms)} -> {axes(rank, result)}", sizes, indices, zeros=LINEAR, why="its length is dynamic")


@repair("Slice")
def slice_bounds(fix: Repair) -> None:
    """Bounds of the positions that are left; where they are not contiguous, a Gather takes the place of the Slice."""
    picked = slices(fix.view) or {}
    changed = {
        k: fix.repositioned(positions, (0, k), (0, k)) for k, positions in picked.items() if fix.kept(0, k) is not None
    }
    if not changed:
        return
    plain = {k: p for k, p in changed.items() if len(p) and (np.diff(p) == 1).all()}
    for k in sorted(set(changed) - set(plain)):
        fix.gather_before(k, changed[k])
    n = fix.view
    rank = n.rank(0)
    starts, ends = (list(n.attr("starts")), list(n.attr("ends"))) if n.opset < 10 else (n.ints(1), n.ints(2))
    over = n.attr("axes") if n.opset < 10 else (n.ints(3) if n.has(3) else None)
    over = [n.axis(int(k), rank) for k in (over if over is not None else range(len(starts)))]
    steps = n.ints(4) if n.opset >= 10 and n.has(4) else [1] * len(starts)
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
            fix.set_input(position, np.asarray(values, dtype=np.int64))


def pads(n: NodeView) -> dict[int, tuple[int, int]]:
    """Axis -> positions padded before and after. Raises RuleError if they are not constant."""
    rank = n.rank(0)
    given = list(n.attr("pads") or n.attr("paddings")) if n.opset < 11 else n.ints(1)
    over = [n.axis(k, rank) for k in n.ints(3)] if n.opset >= 11 and n.has(3) else list(range(rank))
    half = len(given) // 2
    return {k: (int(given[j]), int(given[half + j])) for j, k in enumerate(over)}


@rule("Pad")
def pad(n: NodeView) -> Rel:
    """``c -> [p|c|q]``; in modes other than constant the padding repeats positions, and the axis is frozen."""
    rank = n.rank(0)
    constant = n.attr("mode", "constant") == "constant"
    filler = n.attr("value", 0.0) if n.opset < 11 else (n.const(2) if n.has(2) else 0.0)
    data: dict[int, str] = {}
    result: dict[int, str] = {}
    sizes: dict[str, int] = {}
    for k, (before, after) in pads(n).items():
        if before == after == 0:
            continue
        if not constant or before < 0 or after < 0 or not isinstance(n.shape(0)[k], int):
            data[k], result[k] = f"!x{k}", f"!y{k}"
            continue
        sizes |= {f"p{k}": before} if before else {}
        sizes |= {f"q{k}": after} if after else {}
        result[k] = "[" + "|".join(([f"+p{k}"] if before else []) + [f"a{k}"] + ([f"+q{k}"] if after else [])) + "]"
    terms = [axes(rank, data)] + ["."] * (n.inputs - 1)
    zero = filler is not None and not np.any(np.asarray(filler))
    return Rel(
        f"{', '.join(terms)} -> {axes(rank, result)}",
        sizes,
        zeros=LINEAR if zero else None,
        why="padded by its own positions",
    )


@repair("Pad")
def pad_amounts(fix: Repair) -> None:
    """The padded positions that are left."""
    n = fix.view
    rank = n.rank(0)
    amounts = pads(n)
    for k, (before, after) in amounts.items():
        kept = fix.out_kept(0, k)
        if kept is not None and (before or after):
            size = before + n.size(0, k)
            amounts[k] = int((kept < before).sum()), int((kept >= size).sum())
    if amounts == pads(n):
        return
    over = [n.axis(k, rank) for k in n.ints(3)] if n.opset >= 11 and n.has(3) else list(range(rank))
    values = [amounts[k][0] for k in over] + [amounts[k][1] for k in over]
    if n.opset < 11:
        fix.set_attr("pads", values)
    else:
        fix.set_input(1, np.asarray(values, dtype=np.int64))


@rule("Gather")
def gather(n: NodeView) -> Rel:
    """Constant positions are picked; run-time indices freeze the axis they count along."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    index = n.const(1)
    size = n.shape(0)[k]
    inner = n.rank(1)
    why = "indexed by position at run time" if index is None else "indexed by position"
    rest = axes(rank)
    left, right = rest.split()[:k], rest.split()[k + 1 :]
    if (
        index is None
        or inner > 1
        or not isinstance(size, int)
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
    return Rel(
        f"{axes(rank, {k: '[' + '|'.join(parts) + ']'})}, . -> {' '.join([*left, *right])}",
        sizes,
        zeros=LINEAR,
        why=why,
    )


@repair("Gather")
def gather_indices(fix: Repair) -> None:
    """Where the picked positions are now."""
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
    """Indices count along one axis; the others pass where the shapes agree."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    return Rel(
        f"{axes(rank, {k: '!x'})}, {axes(rank, {k: '!y'})} -> {axes(rank, {k: '!y'})}",
        zeros=LINEAR,
        why="indexed at run time",
    )


@rule("GatherND")
def gather_nd(n: NodeView) -> Rel:
    """Trailing axes that no index counts along pass."""
    rank, batch, indices = n.rank(0), n.attr("batch_dims", 0), n.rank(1)
    last = n.size(1, indices - 1)
    tail = rank - batch - last
    passed = [f"t{k}" for k in range(tail)]
    data = " ".join([*(f"!x{k}" for k in range(rank - tail)), *passed])
    result = " ".join([*(f"!y{k}" for k in range(indices - 1)), *passed])
    return Rel(f"{data}, . -> {result}", zeros=LINEAR, why="indexed at run time")


@rule("ScatterND")
def scatter_nd(n: NodeView) -> Rel:
    """Trailing axes that no index counts along pass, in the data and in what is written."""
    rank, indices = n.rank(0), n.rank(1)
    tail = rank - n.size(1, indices - 1)
    passed = [f"t{k}" for k in range(tail)]
    data = " ".join([*(f"!x{k}" for k in range(rank - tail)), *passed])
    update = " ".join([*(f"!u{k}" for k in range(indices - 1)), *passed])
    return Rel(f"{data}, ., {update} -> {data}", zeros=((0,), (2,)), why="written at run time")


@rule("ScatterElements", "Scatter")
def scatter_elements(n: NodeView) -> Rel:
    """Indices count along one axis; the others pass where the shapes agree."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    inner = axes(rank, {k: "!y"})
    return Rel(
        f"{axes(rank, {k: '!x'})}, {inner}, {inner} -> {axes(rank, {k: '!x'})}",
        zeros=((0,), (2,)),
        why="written at run time",
    )
