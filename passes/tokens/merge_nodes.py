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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import add_initializer, fresh_name
from edgeprune.passes.tokens.settings import TokenSetting

REDUCE_AXES_INPUT = {"ReduceMax": 18, "ReduceSum": 13}
"""The opset from which the axes of a reduction are an operand."""


class Writer:
    """Adds nodes before an anchor; names begin with a prefix.

    Args:
        graph: to add to.
        before: the node before which nodes are inserted.
        prefix: of their names.
    """

    def __init__(self, graph: ir.Graph, before: ir.Node, prefix: str) -> None:
        self.graph, self.before, self.prefix = graph, before, prefix
        self.opset = graph.opset_imports.get("", 1)

    def constant(self, array: NDArray[Any] | Sequence[int]) -> ir.Value:
        """A new initializer; a list is INT64."""
        found = np.asarray(array) if isinstance(array, np.ndarray) else np.asarray(array, np.int64)
        return add_initializer(self.graph, fresh_name(self.graph, f"{self.prefix}/constant"), found)

    def several(
        self, op: str, inputs: Sequence[ir.Value], types: Sequence[ir.DataType], **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """The results of a new node, with these types."""
        name = fresh_name(self.graph, f"{self.prefix}/{op}")
        node = ir.node(op, inputs, attributes, num_outputs=len(types), name=name)
        for k, (value, dtype) in enumerate(zip(node.outputs, types, strict=True)):
            value.name, value.dtype = fresh_name(self.graph, f"{name}_output_{k}"), dtype
        self.graph.insert_before(self.before, node)
        return tuple(node.outputs)

    def op(self, op: str, *inputs: ir.Value, dtype: ir.DataType | None = None, **attributes: Any) -> ir.Value:
        """The result of a new node, of the type of its first operand by default."""
        kind = dtype or inputs[0].dtype
        assert kind is not None
        return self.several(op, inputs, [kind], **attributes)[0]

    def reduce(self, op: str, value: ir.Value, axis: int, *, keepdims: bool) -> ir.Value:
        """A reduction along one axis."""
        keep = int(keepdims)
        if self.opset >= REDUCE_AXES_INPUT[op]:
            return self.op(op, value, self.constant([axis]), keepdims=keep)
        return self.op(op, value, axes=[axis], keepdims=keep)

    def reshape(self, value: ir.Value, *shape: int) -> ir.Value:
        """A Reshape; 0 keeps a length, -1 is what is left."""
        return self.op("Reshape", value, self.constant(list(shape)))

    def rows(self, value: ir.Value, positions: NDArray[np.int64]) -> ir.Value:
        """Fixed positions of the token axis."""
        return self.op("Gather", value, self.constant(positions), axis=1)

    def pick(self, value: ir.Value, positions: ir.Value) -> ir.Value:
        """Of every sample the tokens at ``positions``, shape (batch, tokens, 1)."""
        return self.op("GatherND", value, positions, batch_dims=1)


@dataclass(frozen=True, eq=False)
class StepResult:
    """What a step makes.

    Attributes:
        tokens: shape (batch, tokens that stay, channels).
        sizes: how many patches each stands for, shape (batch or 1, tokens, 1); None if tokens are dropped.
    """

    tokens: ir.Value
    sizes: ir.Value | None


def add_step(
    writer: Writer, tokens: ir.Value, sizes: ir.Value | None, count: int, protected: int, leave: int,
    setting: TokenSetting,
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
    """
    w = writer
    partners, others = setting.partners(count, protected), setting.others(count, protected)
    unit = w.op("LpNormalization", tokens, axis=-1, p=2)
    scores = w.op("MatMul", w.rows(unit, others), w.op("Transpose", w.rows(unit, partners), perm=[0, 2, 1]))
    if not setting.merges:
        return StepResult(_dropped(w, tokens, scores, others, partners, protected, leave), None)
    return _merged(w, tokens, sizes, scores, others, partners, protected, leave)


def _dropped(
    w: Writer, tokens: ir.Value, scores: ir.Value, others: NDArray[np.int64], partners: NDArray[np.int64],
    protected: int, leave: int,
) -> ir.Value:  # fmt: skip
    near = w.reduce("ReduceMax", scores, -1, keepdims=False)
    stay = w.constant([len(others) - leave])
    kinds = [ir.DataType.FLOAT if near.dtype is None else near.dtype, ir.DataType.INT64]
    _, least = w.several("TopK", [near, stay], kinds, axis=-1, largest=0)
    parts = [w.rows(tokens, np.arange(protected, dtype=np.int64))] if protected else []
    if len(others) > leave:
        parts.append(w.pick(w.rows(tokens, others), w.reshape(least, 0, -1, 1)))
    return w.op("Concat", *parts, w.rows(tokens, partners), axis=1)


def _merged(
    w: Writer, tokens: ir.Value, sizes: ir.Value | None, scores: ir.Value, others: NDArray[np.int64],
    partners: NDArray[np.int64], protected: int, leave: int,
) -> StepResult:  # fmt: skip
    dtype = tokens.dtype
    assert dtype is not None
    best, near = w.several("TopK", [scores, w.constant([1])], [dtype, ir.DataType.INT64], axis=-1)
    near, order = w.reshape(near, 0, -1), None
    if leave < len(others):
        several = w.constant([len(others)])
        _, order = w.several("TopK", [w.reshape(best, 0, -1), several], [dtype, ir.DataType.INT64], axis=-1)
        near = w.op("GatherElements", near, w.op("Slice", order, *map(w.constant, ([0], [leave], [1]))), axis=1)
        order = w.reshape(order, 0, -1, 1)
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
        return StepResult(w.op("Div", w.op("Concat", *kept, sums, axis=1), counts), counts)
    kept, sums = folded(tokens)
    one = w.constant(np.ones((), dtype.numpy()))
    counts = w.op("Add", w.reduce("ReduceSum", matrix, -1, keepdims=True), one)
    merged = w.op("Concat", *kept, w.op("Div", sums, counts), axis=1)
    before = protected + len(others) - leave
    return StepResult(merged, w.op("Pad", counts, w.constant([0, before, 0, 0, 0, 0]), one) if before else counts)
