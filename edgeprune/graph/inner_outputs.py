"""A copy of a model that returns inner values."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.graph.model_io import clone


def with_outputs(model: ir.Model, names: Iterable[str], inputs: Iterable[str] | None = None) -> ir.Model:
    """A copy of the model whose outputs are the named values, without the nodes that none of them needs.

    Args:
        model: the model.
        names: the outputs of the copy.
        inputs: the inputs of the copy, values from which the outputs are computed; default: those of the model.

    Raises:
        ModelError: a name is not a value of the model's main graph.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    copy = clone(model)
    values = {v.name: v for v in (*copy.graph.inputs, *(o for n in copy.graph for o in n.outputs))}
    wanted = list(dict.fromkeys(names))
    if missing := [n for n in wanted if n not in values]:
        raise ModelError(f"the model has no value {missing[0]!r}")
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[n] for n in wanted)
    if inputs is not None:
        copy.graph.inputs.clear()
        copy.graph.inputs.extend(_cut_before(values[name]) for name in inputs)
    RemoveUnusedNodesPass()(copy)
    return copy


def _cut_before(value: ir.Value) -> ir.Value:
    """A value without a producer, in its place for all readers."""
    cut = ir.Value(name=value.name, shape=value.shape, type=value.type)
    value.name = f"{value.name}/replaced"
    for reader, index in tuple(value.uses()):
        reader.replace_input_with(index, cut)
    return cut
