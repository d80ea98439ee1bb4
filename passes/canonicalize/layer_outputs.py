"""Scale and shift the outputs of a linear layer by changing its weights and bias, as every folding does.

Computed in float64, stored in the weight's type. If another node also reads the weights, the layer gets its own copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import Names, add_initializer, add_node, constant, input_at, is_op, only_use

Array = NDArray[Any]
LAYERS = ("Conv", "ConvTranspose", "Gemm")
"""Operators with weight and bias in one node."""


def has_constant_weights(node: ir.Node) -> bool:
    """Whether weight and bias are constants."""
    return constant(input_at(node, 1)) is not None and (
        input_at(node, 2) is None or constant(input_at(node, 2)) is not None
    )


def is_plain(node: ir.Node) -> bool:
    """A Gemm whose alpha, beta and transA leave a plain linear layer; a convolution always is."""
    if not is_op(node, "Gemm"):
        return True
    factors = [node.attributes[name].as_float() for name in ("alpha", "beta") if name in node.attributes]
    return all(f == 1 for f in factors) and not node.attributes.get_int("transA", 0)


def scale_outputs(found: ir.Node, scale: Array, shift: Array | None, names: Names) -> None:
    """Scale and shift the output channels of a convolution or plain Gemm by changing its weight and bias.

    Without a ``shift``, a layer without a bias gets none.
    """
    weight, bias = constant(input_at(found, 1)), constant(input_at(found, 2))
    assert weight is not None
    axis = output_axis(found)
    if axis is None:  # ConvTranspose: (in, out/group, ...), with the groups along the input axis
        groups = found.attributes.get_int("group", 1)
        rows = np.repeat(scale.reshape(groups, 1, -1), weight.shape[0] // groups, axis=1).reshape(weight.shape[0], -1)
        factor: Array = rows.reshape(*rows.shape, *(1,) * (weight.ndim - 2))
    else:
        factor = scale.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    added = bias is not None or shift is not None
    old, more = (np.zeros(()) if v is None else v.astype(np.float64) for v in (bias, shift))
    set_arrays(found, weight * factor, old * scale + more if added else None, weight.dtype, names)


def scale_matmul(node: ir.Node, scale: Array, shift: Array | None, names: Names) -> bool:
    """The same for a MatMul with a constant right operand, or for the Add of a constant vector behind one.

    Returns whether the node is one of these.
    """
    matmul, added = node, None
    if is_op(node, "Add"):
        sides = [i for i in (0, 1) if constant(input_at(node, i)) is not None]
        other = node.inputs[1 - sides[0]] if len(sides) == 1 else None
        producer = other.producer() if other is not None else None
        added = constant(node.inputs[sides[0]]) if sides else None
        if other is None or producer is None or added is None or added.shape != scale.shape or only_use(other) is None:
            return False
        matmul = producer
    weight = constant(input_at(matmul, 1))
    if not is_op(matmul, "MatMul") or weight is None or weight.ndim != 2 or weight.shape[1] != len(scale):
        return False
    assert node.graph is not None
    base = matmul.inputs[1].name if matmul.inputs[1] is not None else matmul.name
    folded = add_initializer(node.graph, names.fresh(f"{base}_folded"), (weight * scale).astype(weight.dtype))
    matmul.replace_input_with(1, folded)
    if added is None and shift is None:
        return True
    old, more = (np.zeros(()) if v is None else v.astype(np.float64) for v in (added, shift))
    bias = old * scale + more
    vector = add_initializer(node.graph, names.fresh(f"{base}_bias"), bias.astype(weight.dtype))
    if is_op(node, "Add"):
        node.replace_input_with(sides[0], vector)
        return True
    output = matmul.outputs[0]
    uses = list(output.uses())
    shifted = add_node(uses[0].node, "Add", [output, vector], names, name=f"{matmul.name}_bias", like=output)
    for use in uses:
        use.node.replace_input_with(use.idx, shifted)
    return True


def output_axis(node: ir.Node) -> int | None:
    """The output channel axis of a layer's weight; None for ConvTranspose, where the groups interleave."""
    if is_op(node, "ConvTranspose"):
        return None
    return 0 if is_op(node, "Conv") or node.attributes.get_int("transB") else 1


def set_arrays(node: ir.Node, weight: Array, bias: Array | None, dtype: np.dtype[Any], names: Names) -> None:
    """Give a node new weights, under the old names if nothing else reads the old ones."""
    for index, array in ((1, weight), (2, bias)):
        if array is None:
            continue
        old = input_at(node, index)
        tensor = array.astype(dtype)
        if old is not None and len(old.uses()) == 1 and not old.is_graph_output():
            old.const_value = ir.Tensor(tensor, name=old.name)
            old.shape = ir.Shape(tensor.shape)
            continue
        assert node.graph is not None
        weight_name = node.inputs[1].name if node.inputs[1] is not None else node.name
        base = f"{weight_name}_{'folded' if index == 1 else 'bias'}"
        value = add_initializer(node.graph, names.fresh(base), tensor)
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)
