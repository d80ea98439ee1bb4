"""Operators that do more with tokens than treat them one by one, and that still allow fewer tokens.

Each function takes the flow and the node. It gives ``None`` if the node is not its business, ``True`` if it is legal,
and else why not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Refused, constant, dim_keys, input_at, ints_attribute, is_op
from edgeprune.passes.tokens.token_flow import Place, TokenAxis, TokenFlow

MOST_PROTECTED = 8
"""At most so many tokens at the beginning are class tokens; a cut behind them is something else."""

Verdict = bool | Refused | None


def softmax(flow: TokenFlow, node: ir.Node, opset: int) -> Verdict:
    """Probabilities over tokens: a token that stands for several counts several times."""
    if not is_op(node, "Softmax") or opset < 13:
        return None
    value = node.inputs[0]
    shape = dim_keys(value)
    if value is None or shape is None:
        return None
    axis = node.attributes.get_int("axis", -1) % len(shape)
    tokens = flow.on(value, axis)
    if tokens is None:
        return None
    if tokens.rows or tokens.first:
        return Refused(f"the keys of an attention are not all tokens ({node.name})")
    if flow.batch.get(value) != 0 and not flow.is_single:
        return Refused(f"the samples are not on the first axis of the scores of {node.name}")
    flow.softmaxes.append(flow.place(node, 0, tokens))
    flow.self_attentions += len(flow.axes[value]) > 1
    result = node.outputs[0]
    flow.carry(result, *flow.axes[value])
    flow.probabilities[result] = axis
    if value in flow.batch:
        flow.batch[result] = flow.batch[value]
    return True


def attention(flow: TokenFlow, node: ir.Node, opset: int) -> Verdict:
    """Attention as one operator: its keys are the tokens, and perhaps its queries."""
    if not is_op(node, "Attention"):
        return None
    query, key, value = node.inputs[:3]
    shape = dim_keys(query)
    axis = 1 if shape is not None and len(shape) == 3 else 2
    on = [flow.on(operand, axis) for operand in (query, key, value)]
    if any(len(flow.axes.get(v, ())) > (t is not None) for v, t in zip((query, key, value), on, strict=True) if v):
        return Refused(f"tokens are not where {node.name} has its positions")
    mask = input_at(node, 3)
    if (
        any(v is not None for v in node.inputs[4:])
        or not _is_table(flow, mask, on)
        or node.attributes.get_int("is_causal", 0) == 1
        or len(node.outputs) > 1
    ):
        return Refused(f"the attention {node.name} has a mask or a cache with a number for each token")
    if on[1] is not None or on[2] is not None:
        if on[1] is None or on[1] != on[2] or on[1].first or on[1].rows:
            return Refused(f"the keys of an attention are not all tokens ({node.name})")
        flow.softmaxes.append(flow.place(node, 1, on[1]))
        flow.self_attentions += on[0] is not None
    if mask is not None:
        assert mask.shape is not None
        for back, tokens in ((2, on[0]), (1, on[1])):
            at = len(mask.shape) - back
            if tokens is not None and mask.shape[at] != 1:
                flow.tables.append(Place(node, 3, TokenAxis(at, tokens.first), None))
    if on[0] is not None:
        flow.carry(node.outputs[0], on[0])
        flow.batch[node.outputs[0]] = 0
    return True


def _is_table(flow: TokenFlow, mask: ir.Value | None, on: Sequence[TokenAxis | None]) -> bool:
    """Whether a mask is a constant with a number for each query and each key, or absent."""
    if mask is None:
        return True
    shape = dim_keys(mask)
    if mask.const_value is None or mask.dtype == ir.DataType.BOOL or shape is None or len(shape) < 2:
        return False
    lengths = [1 if t is None else flow.count - t.first for t in on[:2]]
    fits = all(t is None or n in (1, length) for t, n, length in zip(on, shape[-2:], lengths, strict=False))
    return fits and flow.is_single


def rotary(flow: TokenFlow, node: ir.Node, opset: int) -> Verdict:
    """Rotary embeddings as one operator: the angles are constants with a row for each token."""
    if not is_op(node, "RotaryEmbedding"):
        return None
    value, rank = node.inputs[0], len(dim_keys(node.inputs[0]) or ())
    axis = 1 if rank == 3 else 2
    tokens = flow.on(value, axis)
    if value is None or tokens is None or tokens.rows or len(flow.axes[value]) != 1:
        return None
    angles = node.inputs[1:3]
    shapes = [dim_keys(v) for v in angles]
    if (
        input_at(node, 3) is not None
        or not flow.is_single
        or any(v is None or v.const_value is None for v in angles)
        or any(s is None or len(s) != 3 or s[1] != flow.count - tokens.first for s in shapes)
    ):
        return Refused(f"the angles of {node.name} are not constants with a row for each token of one sample")
    flow.tables += [Place(node, k, TokenAxis(1, tokens.first), None) for k in (1, 2)]
    flow.carry(node.outputs[0], tokens)
    if value in flow.batch:
        flow.batch[node.outputs[0]] = flow.batch[value]
    return True


def rejoined(flow: TokenFlow, node: ir.Node, opset: int) -> Verdict:
    """The first tokens, treated on their own, in front of the others again."""
    if not is_op(node, "Concat"):
        return None
    last = node.inputs[-1]
    shape = dim_keys(last)
    if last is None or shape is None:
        return None
    axis = node.attributes.get_int("axis", 0) % len(shape)
    tokens = flow.on(last, axis)
    if tokens is None or not tokens.first or tokens.rows or len(flow.axes[last]) != 1:
        return None
    front = [dim_keys(v) for v in node.inputs[:-1]]
    if any(v in flow.axes for v in node.inputs[:-1]) or any(s is None or not isinstance(s[axis], int) for s in front):
        return None
    if sum(int(str(s[axis])) for s in front if s is not None) != tokens.first:
        return None
    flow.carry(node.outputs[0], TokenAxis(axis))
    if last in flow.batch:
        flow.batch[node.outputs[0]] = flow.batch[last]
    return True


def pointwise(flow: TokenFlow, node: ir.Node, opset: int) -> Verdict:
    """A convolution of one pixel: the tokens lie along its image."""
    value = node.inputs[0] if node.inputs else None
    weight = dim_keys(input_at(node, 1))
    if value is None or not is_op(node, "Conv") or weight is None or any(t.axis < 2 for t in flow.axes.get(value, ())):
        return None
    given = (ints_attribute(node, name) or (default,) for name, default in (("strides", 1), ("pads", 0)))
    strides, pads = given
    if any(k != 1 for k in weight[2:]) or any(k != 1 for k in strides) or any(pads):
        return None
    flow.carry(node.outputs[0], *flow.axes[value])
    if flow.batch.get(value) == 0:
        flow.batch[node.outputs[0]] = 0
    if value in flow.probabilities and input_at(node, 2) is None:  # heads that mix their probabilities
        flow.probabilities[node.outputs[0]] = flow.probabilities[value]
    flow.linears += 1
    return True


def pool(flow: TokenFlow, node: ir.Node, opset: int) -> Verdict:
    """The mean over all tokens."""
    value = node.inputs[0] if node.inputs else None
    if value is None or not is_op(node, "ReduceMean", "GlobalAveragePool"):
        return None
    shape, carried = dim_keys(value), flow.axes.get(value, ())
    if shape is None or len(carried) != 1 or carried[0].rows:
        return None
    if is_op(node, "ReduceMean"):
        given = ints_attribute(node, "axes")
        if given is None and (array := constant(input_at(node, 1))) is not None:
            given = tuple(int(k) for k in array)
        over = {k % len(shape) for k in given or range(len(shape))}
    else:
        over = set(range(2, len(shape)))
    if carried[0].axis not in over:
        return None
    if any(k != carried[0].axis and shape[k] != 1 for k in over):
        return Refused(f"{node.op_type} takes the mean over tokens and over another axis ({node.name})")
    if any(is_op(use.node, "Sub") for use in value.uses()):
        return Refused(f"a normalization takes statistics over the tokens ({node.name})")
    if flow.batch.get(value) != 0 and not flow.is_single:
        return Refused(f"the samples are not on the first axis of {value.name}")
    flow.pools.append(flow.place(node, 0, carried[0]))
    return True


def by_position(flow: TokenFlow, node: ir.Node, opset: int) -> Verdict:
    """The first tokens chosen by position, or cut off."""
    value = node.inputs[0] if node.inputs else None
    if value is None or not is_op(node, "Gather", "Slice", "Split"):
        return None
    shape, axis = dim_keys(value), _axis_of(node, value)
    tokens = None if axis is None else flow.on(value, axis)
    if tokens is None or shape is None:
        return None
    if len(flow.axes[value]) > 1 or tokens.rows:
        return Refused(f"tokens are chosen where they are on several axes ({node.op_type} {node.name})")
    length = flow.count - tokens.first
    parts = _parts(node, length)
    if parts is None:
        return Refused(f"tokens are chosen by position ({node.op_type} {node.name})")
    for result, positions in zip(node.outputs, parts, strict=True):
        chosen = positions + tokens.first
        if chosen.size and chosen.max() < MOST_PROTECTED and chosen.max() < flow.count - 1:
            flow.protected = max(flow.protected, int(chosen.max()) + 1)
        elif np.array_equal(chosen, np.arange(chosen[0], flow.count)) and chosen[0] <= MOST_PROTECTED:
            flow.protected = max(flow.protected, int(chosen[0]))
            flow.carry(result, TokenAxis(tokens.axis, int(chosen[0])))
            if value in flow.batch:
                flow.batch[result] = flow.batch[value]
        else:
            return Refused(f"tokens are chosen by position ({node.op_type} {node.name})")
    return True


def lengths(flow: TokenFlow, node: ir.Node, opset: int) -> Verdict:
    """The shape of a value with tokens: what is computed from it follows by itself."""
    return True if is_op(node, "Shape", "Size") else None


def _axis_of(node: ir.Node, value: ir.Value) -> int | None:
    """The one axis along which a Gather, Slice or Split works."""
    shape = dim_keys(value)
    assert shape is not None
    if not is_op(node, "Slice"):
        return node.attributes.get_int("axis", 0) % len(shape)
    over = constant(input_at(node, 3))
    count = constant(input_at(node, 1))
    if over is None:
        over = np.arange(0 if count is None else count.size)
    return int(over[0]) % len(shape) if over.size == 1 else None


def _parts(node: ir.Node, length: int) -> list[np.ndarray] | None:
    """The positions that each result has, or None if they are not known or a token would be there twice."""
    positions = np.arange(length, dtype=np.int64)
    if is_op(node, "Gather"):
        index = constant(input_at(node, 1))
        return None if index is None or index.ndim > 1 else [np.asarray(index, np.int64).reshape(-1) % length]
    if is_op(node, "Slice"):
        bounds = [constant(input_at(node, k)) for k in (1, 2, 4)]
        if bounds[0] is None or bounds[1] is None or (input_at(node, 4) is not None and bounds[2] is None):
            return None
        step = 1 if bounds[2] is None else int(bounds[2][0])
        found = positions[int(bounds[0][0]) : int(bounds[1][0]) : step] if step == 1 else positions[:0]
        return [found] if found.size else None
    split = constant(input_at(node, 1))
    if split is None or int(split.sum()) != length:
        return None
    return np.split(positions, np.cumsum(split)[:-1].astype(int))


HANDLERS = (softmax, attention, pointwise, pool, by_position, rejoined, rotary, lengths)
