"""Give an exported model the names of its module: both exporters lose those of weights that they transpose or fold.

A weight is known by its values: it equals one tensor of the module, up to a permutation of axes and axes of size 1. If
several tensors have these values, or none has because a normalization was folded in, the layer that reads the weight
decides. A weight that stays unknown keeps its name.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.pytorch.weight_layers import array_of, hint_of

Array = NDArray[Any]

_SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata of the dynamo exporter: the modules around a node, outermost first, then the name of the operation."""

_PERMUTED_AXES = 4
"""Tensors with more axes than this are compared as they are."""


def restore_names(model: ir.Model, state: Mapping[str, Array]) -> int:
    """Name nodes after the module that they compute, and initializers after its tensors; in place.

    Args:
        model: as exported.
        state: the module's parameters and buffers by name.

    Returns:
        How many initializers have a new name.
    """
    _name_nodes(model)
    taken = {value.name for value in _values(model)}
    by_size: dict[int, list[str]] = {}
    for key, tensor in state.items():
        by_size.setdefault(tensor.size, []).append(key)
    renamed = 0
    for value in list(model.graph.initializers.values()):
        if value.name in state or value.dtype is None or not value.dtype.is_floating_point():
            continue
        array = array_of(value)
        of_its_size = [key for key in by_size.get(array.size, ()) if key not in taken] if array.size > 1 else []
        name = _named(value, array, of_its_size, state)
        if name is not None:
            taken.add(name)
            value.name = name
            renamed += 1
    return renamed


def _named(value: ir.Value, array: Array, keys: list[str], state: Mapping[str, Array]) -> str | None:
    """The tensor of the module that an initializer holds; None if that is not known."""
    hinted = [key for key in keys if key in _expected(value)]
    equal = [key for key in keys if _equals(state[key], array)]
    if either := [key for key in hinted if key in equal]:
        return either[0]
    if equal:
        one = all(np.may_share_memory(state[key], state[equal[0]]) for key in equal)
        return equal[0] if one else None
    same_axes = [key for key in hinted if _dims(state[key]) == _dims(array)]
    return same_axes[0] if same_axes else None


def _expected(value: ir.Value) -> set[str]:
    """What the layers that read a value call it: the weight is their second input, the bias the third or added."""
    found = set()
    for use in value.uses():
        layer = hint_of(use.node)
        if layer and use.node.op_type == "Add":
            found.add(f"{layer}bias")
        elif layer and use.idx in (1, 2):
            found.add(f"{layer}{'weight' if use.idx == 1 else 'bias'}")
    return found


def _equals(tensor: Array, array: Array) -> bool:
    """Whether both are the same up to a permutation of axes and axes of size 1."""
    tensor, array = tensor.squeeze(), array.squeeze()
    if sorted(tensor.shape) != sorted(array.shape):
        return False
    orders: Iterator[tuple[int, ...]] = iter([tuple(range(tensor.ndim))])
    if tensor.ndim <= _PERMUTED_AXES:
        orders = itertools.permutations(range(tensor.ndim))
    shaped = (np.transpose(tensor, order) for order in orders if _along(tensor, order) == array.shape)
    return any(np.array_equal(permuted, array) for permuted in shaped)


def _along(tensor: Array, order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(tensor.shape[axis] for axis in order)


def _dims(array: Array) -> list[int]:
    return sorted(n for n in array.shape if n != 1)


def _name_nodes(model: ir.Model) -> None:
    """``/blocks/0/attn/qkv/MatMul`` for ``node_MatMul_19``: the form in which TorchScript names nodes."""
    taken = {node.name for node in model.graph}
    for node in model.graph:
        scopes = _scopes(node)
        if not scopes:
            continue
        plain = f"/{scopes[-1].replace('.', '/')}/{node.op_type}"
        numbered = itertools.chain([plain], (f"{plain}_{number}" for number in itertools.count(1)))
        node.name = next(name for name in numbered if name not in taken)
        taken.add(node.name)


def _scopes(node: ir.Node) -> list[str]:
    """The modules around a node, outermost first; the model itself has no name."""
    try:
        listed = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (SyntaxError, ValueError):
        return []
    return [scope for scope in listed[:-1] if scope and isinstance(scope, str)] if isinstance(listed, list) else []


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in model.graph.all_nodes():
        yield from node.outputs
