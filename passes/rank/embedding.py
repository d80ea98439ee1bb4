"""The residual stream of a transformer, where its basis may be changed: written by linear layers, read by norms alone.

Between the layers that write it and the LayerNormalizations that read it there are sums, constants that are added, and
nodes that move values. Behind a LayerNormalization there are linear layers, and nodes that move values. So the stream
can be written in another basis, and read back from it, without a change of the function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.dependency import Analysis, Group, analyse
from edgeprune.graph import Linear, Refused, find_linears, is_op, weights_read_once

_MOVES = ("Flatten", "Gather", "Identity", "ReduceMean", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_ADDED = ("Add", "Concat", "Expand")


@dataclass(frozen=True, eq=False)
class Embedding:
    """A residual stream.

    Attributes:
        analysis: in which its channels are a group.
        group: that group.
        written: (weight, axis of its outputs), and (constant that is added, axis of the channels).
        norms: names of the LayerNormalizations that read it.
        readers: linear layer behind a norm -> that norm.
    """

    analysis: Analysis
    group: Group
    written: tuple[tuple[str, int], ...]
    norms: tuple[str, ...]
    readers: dict[str, str]


def embedding_of(model: ir.Model) -> Embedding | Refused:
    """The widest residual stream of a canonical model whose basis may be changed, or why there is none."""
    analysis = analyse(model, allow_statistic=True)
    groups = [g for g in analysis.groups if any(m.role == "statistic" for m in g.members)]
    if not groups:
        return Refused("no channels are read by a LayerNormalization alone")
    verdicts = [_checked(model, analysis, g) for g in sorted(groups, key=lambda g: -g.size)]
    found = [v for v in verdicts if isinstance(v, Embedding)]
    return found[0] if found else verdicts[0]


def _checked(model: ir.Model, analysis: Analysis, group: Group) -> Embedding | Refused:
    stored = [m for m in group.members if m.value in model.graph.initializers]
    if any(not np.array_equal(m.unit, np.arange(group.size)) for m in stored):
        return Refused("its channels are in another order somewhere")
    axes = {(m.value, m.axis) for m in stored}
    linears = find_linears(model)
    once = weights_read_once(model, linears.values())
    stream, normed = dict[str, None](), dict[str, str]()
    written, norms, readers, seen = dict[tuple[str, int], None](), dict[str, None](), dict[str, str](), set[str]()
    constants = {m.value: m.axis for m in stored if m.role == "pointwise"}
    outputs = {str(v.name) for v in model.graph.outputs}
    for node in model.graph:
        name, read = str(node.name), [str(v.name) for v in node.inputs if v is not None]
        made = str(node.outputs[0].name) if node.outputs else ""
        layer = linears.get(name)
        if layer is not None and (layer.weight, _output_axis(layer)) in axes:
            stream[made] = None
            written[layer.weight, _output_axis(layer)] = None
            seen |= {layer.weight}
            if layer.op != "MatMul" and layer.bias.value:
                written[layer.bias.value, 0] = None
                seen.add(layer.bias.value)
        inside = [r for r in read if r in stream or r in normed]
        added = [r for r in read if r in constants]
        if not inside and not added:
            continue
        if layer is not None:
            if layer.groups > 1:
                return Refused(f"the grouped convolution {name!r} reads it")
            if layer.input in normed and (layer.weight, layer.channel_axis) in axes:
                if why := _misreads(layer, once):
                    return Refused(f"{why} {name!r} reads it")
                if made in stream:
                    return Refused(f"the layer {name!r} reads it and writes it")
                readers[name] = normed[layer.input]
                seen.add(layer.weight)
            elif inside:
                return Refused(f"the layer {name!r} reads it without a LayerNormalization")
        elif is_op(node, "LayerNormalization") and read[0] in stream and len(node.outputs) == 1:
            norms[name] = None
            normed[made] = name
            seen |= set(read[1:])
        elif is_op(node, *_ADDED) and not any(r in normed for r in read) and _all_known(node, stream, constants):
            stream[made] = None
            written |= {(r, constants[r]): None for r in added}
            seen |= set(added)
        elif is_op(node, *_MOVES) and inside == read[:1]:
            if read[0] in stream:
                stream[made] = None
            else:
                normed[made] = normed[read[0]]
        elif not is_op(node, "Shape"):
            return Refused(f"{node.op_type} {name!r} reads it")
    if lost := sorted({m.value for m in stored} - seen):
        return Refused(f"{lost[0]!r} is used in another way")
    if any(v in outputs for v in (*stream, *normed)) or not norms or not readers:
        return Refused("it is an output of the model, or no layer reads it")
    return Embedding(analysis, group, tuple(written), tuple(norms), readers)


def _misreads(layer: Linear, once: set[str]) -> str:
    """What a layer is that cannot take the scale and the shift of the norm before it into weights and bias, or ""."""
    if layer.weight not in once:
        return "the layer with a shared weight"
    if layer.op == "ConvTranspose":
        return "the transposed convolution"
    window = layer.window
    if window is not None and (any((*window.before, *window.after)) or window.auto_pad):
        return "the padded convolution"  # behind a border of zeros the shift is none
    return ""


def _all_known(node: ir.Node, stream: dict[str, None], constants: dict[str, int]) -> bool:
    """Whether every operand is of the stream, or a constant of its channels; the shape of an Expand apart."""
    operands: Sequence[ir.Value | None] = node.inputs[:1] if node.op_type == "Expand" else node.inputs
    return all(v is not None and (v.name in stream or v.name in constants) for v in operands)


def _output_axis(layer: Linear) -> int:
    return 0 if layer.op == "Conv" else 1 - layer.channel_axis
