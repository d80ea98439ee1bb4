"""The nodes of one step: match tokens by similarity, and merge or drop those with the most similar partners.

Every length is fixed. With ``a`` tokens that may leave, ``b`` partners and ``r`` that leave::

    unit     = x / |x|                                            cosine similarity
    scores   = unit[others] unit[partners]^T                      (batch, a, b)
    near     = TopK(scores, 1)                                    the partner of each token, and how similar it is
    order    = TopK(near, a)                                      the first r leave
    sums     = x[partners] + (near == partner) x[order[:r]]       a MatMul with a 0/1 matrix instead of a scatter
    result   = [x[protected] | x[order[r:]] | sums / sizes]

Tokens that stand for several patches are weighted by their number. A token that is dropped needs no partner, and only
the similarity is computed. Protected tokens stay first. The order of the others has no meaning to the network behind;
here those that could have left follow by their similarity, and the partners are last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.passes.tokens.settings import TokenSetting
from edgeprune.passes.tokens.writer import Writer


@dataclass(frozen=True, eq=False)
class StepResult:
    """What a step makes.

    Attributes:
        tokens: shape (batch, tokens that stay, channels).
        sizes: how many patches each stands for, shape (batch or 1, tokens, 1); None if tokens are dropped.
        index: for each token before the step its position behind it, or that of the one that stands in for it, shape
            (batch, tokens); None if it is not asked for.
        stay: the positions before the step of the tokens that stay, shape (batch or 1, tokens).
    """

    tokens: ir.Value
    sizes: ir.Value | None
    index: ir.Value | None
    stay: Callable[[], ir.Value]


def add_step(
    writer: Writer, tokens: ir.Value, sizes: ir.Value | None, count: int, protected: int, leave: int,
    setting: TokenSetting, *, indexed: bool = False,
) -> StepResult:  # fmt: skip
    """Add the nodes of one step.

    Args:
        writer: where.
        tokens: shape (batch, count, channels).
        sizes: patches that each token stands for; None if it is one for all.
        count: number of tokens.
        protected: tokens at the beginning that stay.
        leave: number of tokens that leave.
        setting: how.
        indexed: whether the index is needed.
    """
    w = writer
    unit = w.op("LpNormalization", tokens, axis=-1, p=2)
    if setting.background:
        return _without_background(w, tokens, unit, count, protected, leave, indexed=indexed)
    partners, others = setting.partners(count, protected), setting.others(count, protected)
    scores = w.op("MatMul", w.rows(unit, others), w.op("Transpose", w.rows(unit, partners), perm=[0, 2, 1]))
    if not setting.merges and not indexed:
        near = w.reduce("ReduceMax", scores, -1, keepdims=False)
        _, least = w.several("TopK", [near, w.constant([len(others) - leave])], _kinds(near), axis=-1, largest=0)
        kept = least if len(others) > leave else None
        stay = partial(_positions, w, kept, others, partners, protected)
        return StepResult(_dropped(w, tokens, kept, others, partners, protected), None, None, stay)
    best, near = w.several("TopK", [scores, w.constant([1])], _kinds(scores), axis=-1)
    near, order = w.reshape(near, 0, -1), None
    if leave < len(others):
        several = w.constant([len(others)])
        _, order = w.several("TopK", [w.reshape(best, 0, -1), several], _kinds(best), axis=-1)
        near = w.op("GatherElements", near, order, axis=1)
    index = None
    if indexed:
        behind = protected + len(others) - leave
        target = w.op("Add", near, w.constant([behind]))
        if order is not None:
            target = _targets(w, order, target, protected, leave, len(others))
        index = _index(w, target, others, partners, count, protected, behind)
    kept = None if order is None else w.part(order, leave, len(others))
    stay = partial(_positions, w, kept, others, partners, protected)
    if not setting.merges:
        return StepResult(_dropped(w, tokens, kept, others, partners, protected), None, index, stay)
    if order is not None:
        near, order = w.part(near, 0, leave), w.reshape(order, 0, -1, 1)
    merged, counts = _merged(w, tokens, sizes, near, order, others, partners, protected, leave)
    return StepResult(merged, counts, index, stay)


def _kinds(value: ir.Value) -> list[ir.DataType]:
    """The types of what a TopK finds."""
    return [ir.DataType.FLOAT if value.dtype is None else value.dtype, ir.DataType.INT64]


def _targets(w: Writer, order: ir.Value, joined: ir.Value, protected: int, leave: int, several: int) -> ir.Value:
    """For each token that may leave, its position behind the step.

    Args:
        w: where.
        order: their numbers, first those that leave, shape (batch, several).
        joined: in this order, the position of the token that each would join, shape (batch, several).
        protected: tokens at the beginning that stay.
        leave: number of tokens that leave.
        several: number of tokens that may leave.
    """
    ranks = np.arange(several, dtype=np.int64)[None]
    staying = w.constant(ranks + protected - leave)
    updates = w.op("Where", w.constant(ranks < leave), joined, staying, dtype=ir.DataType.INT64)
    return w.op("ScatterElements", order, order, updates, axis=1)


def _index(
    w: Writer, target: ir.Value, others: NDArray[np.int64], partners: NDArray[np.int64], count: int, protected: int,
    behind: int,
) -> ir.Value:  # fmt: skip
    """For every token before the step its position behind it, shape (batch, count).

    Args:
        w: where.
        target: that of each of the others, shape (batch, others).
        others: tokens that may leave.
        partners: tokens that stay, from position ``behind`` on.
        count: number of tokens before the step.
        protected: tokens at the beginning that stay.
        behind: the position of the first partner.
    """
    numbers, fixed = np.zeros(count, np.int64), np.zeros((1, count), np.int64)
    numbers[others] = np.arange(len(others))
    fixed[0, :protected] = np.arange(protected)
    fixed[0, partners] = behind + np.arange(len(partners))
    spread = w.rows(target, numbers)
    if not protected and not len(partners):
        return spread
    may_leave = np.isin(np.arange(count), others)[None]
    return w.op("Where", w.constant(may_leave), spread, w.constant(fixed), dtype=ir.DataType.INT64)


def _dropped(
    w: Writer, tokens: ir.Value, kept: ir.Value | None, others: NDArray[np.int64], partners: NDArray[np.int64],
    protected: int,
) -> ir.Value:  # fmt: skip
    """The tokens that stay: of ``others`` those with the numbers ``kept``, shape (batch, tokens); None for none."""
    parts = [w.rows(tokens, np.arange(protected, dtype=np.int64))] if protected else []
    if kept is not None:
        parts.append(w.pick(w.rows(tokens, others), w.reshape(kept, 0, -1, 1)))
    if len(partners):
        parts.append(w.rows(tokens, partners))
    return w.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _positions(
    w: Writer, kept: ir.Value | None, others: NDArray[np.int64], partners: NDArray[np.int64], protected: int
) -> ir.Value:
    """The positions of the tokens that stay, in their order; operands as those of `_dropped`."""
    parts = [w.constant(np.arange(protected, dtype=np.int64)[None])] if protected else []
    if kept is not None:
        parts.append(w.op("Gather", w.constant(others), kept, axis=0))
    if len(partners):
        parts.append(w.constant(partners[None]))
    return w.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]


def _without_background(
    w: Writer, tokens: ir.Value, unit: ir.Value, count: int, protected: int, leave: int, *, indexed: bool
) -> StepResult:
    """Drop the tokens that are most like the mean of all, or least like the class token."""
    others = np.arange(protected, count, dtype=np.int64)
    patches = w.rows(unit, others) if protected else unit
    head = np.zeros(1, np.int64)
    centre = w.rows(unit, head) if protected else w.reduce("ReduceMean", unit, 1, keepdims=True)
    alike = w.reshape(w.op("MatMul", patches, w.op("Transpose", centre, perm=[0, 2, 1])), 0, -1)
    several = w.constant([len(others)])
    _, order = w.several("TopK", [alike, several], _kinds(alike), axis=-1, largest=int(not protected))
    kept = w.part(order, leave, len(others))
    index = None
    if indexed:
        # Each token that leaves is later as the most similar one that stays; a token that stays is most like itself.
        ordered = w.pick(patches, w.reshape(order, 0, -1, 1))
        partners = w.op("Transpose", w.part(ordered, leave, len(others)), perm=[0, 2, 1])
        scores = w.op("MatMul", ordered, partners)
        _, near = w.several("TopK", [scores, w.constant([1])], _kinds(scores), axis=-1)
        joined = w.op("Add", w.reshape(near, 0, -1), w.constant([protected]))
        target = _targets(w, order, joined, protected, leave, len(others))
        index = _index(w, target, others, others[:0], count, protected, count - leave)
    stay = partial(_positions, w, kept, others, others[:0], protected)
    return StepResult(_dropped(w, tokens, kept, others, others[:0], protected), None, index, stay)


def _merged(
    w: Writer, tokens: ir.Value, sizes: ir.Value | None, near: ir.Value, order: ir.Value | None,
    others: NDArray[np.int64], partners: NDArray[np.int64], protected: int, leave: int,
) -> tuple[ir.Value, ir.Value]:  # fmt: skip
    """The tokens behind a step that merges, and how many patches each stands for.

    Args:
        w: where.
        tokens: shape (batch, count, channels).
        sizes: patches that each token stands for; None if it is one for all.
        near: the number of the partner of each token that leaves, shape (batch, leave).
        order: the numbers of the others, first those that leave, shape (batch, others, 1); None if all leave.
        others: tokens that may leave.
        partners: tokens that stay.
        protected: tokens at the beginning that stay.
        leave: number of tokens that leave.
    """
    dtype = tokens.dtype
    assert dtype is not None
    numbers = w.constant(np.arange(len(partners), dtype=np.int64).reshape(1, -1, 1))
    matches = w.op("Equal", numbers, w.reshape(near, 0, 1, -1), dtype=ir.DataType.BOOL)
    matrix = w.op("Cast", matches, dtype=dtype, to=int(dtype))
    first = np.arange(protected, dtype=np.int64)

    def folded(values: ir.Value) -> tuple[list[ir.Value], ir.Value]:
        """The rows that stay as they are, and the sums of the partners with what joins them."""
        rows = w.rows(values, others)
        kept = [w.rows(values, first)] if protected else []
        if order is not None:
            split = w.constant([leave, len(others) - leave])
            rows, stays = w.several("Split", [w.pick(rows, order), split], [dtype] * 2, axis=1)
            kept.append(stays)
        return kept, w.op("Add", w.rows(values, partners), w.op("MatMul", matrix, rows))

    if sizes is not None:
        kept, counts = folded(sizes)
        counts = w.op("Concat", *kept, counts, axis=1)
        kept, sums = folded(w.op("Mul", tokens, sizes))
        return w.op("Div", w.op("Concat", *kept, sums, axis=1), counts), counts
    kept, sums = folded(tokens)
    one = w.constant(np.ones((), dtype.numpy()))
    counts = w.op("Add", w.reduce("ReduceSum", matrix, -1, keepdims=True), one)
    merged = w.op("Concat", *kept, w.op("Div", sums, counts), axis=1)
    before = protected + len(others) - leave
    return merged, w.op("Pad", counts, w.constant([0, before, 0, 0, 0, 0]), one) if before else counts
