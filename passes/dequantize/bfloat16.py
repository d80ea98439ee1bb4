"""bfloat16 models, which onnxruntime cannot run on a CPU: what they compute, and their inputs and outputs.

The float32 form has float32 inputs and outputs, because NumPy has no bfloat16 to feed them with. Behind it stands a
*reference*: the same in float32, with every value that the user's model holds in bfloat16 rounded to it. Results are
compared with the reference. `with_interface` gives a model the user's inputs and outputs again, before it is written.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import fresh_name, naming, new_node, place_after

_KINDS = _BFLOAT16, _FLOAT = ir.DataType.BFLOAT16, ir.DataType.FLOAT


@dataclass(frozen=True)
class Interface:
    """Names of the inputs and outputs of type bfloat16, and of the nodes that compute in either type.

    ``inside`` compute in bfloat16, ``singles`` in float32; Casts between the two are in neither.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    inside: frozenset[str] = frozenset()
    singles: frozenset[str] = frozenset()


NO_BFLOAT16 = Interface()


def bfloat16_values(model: ir.Model) -> set[str]:
    """Names of the values of the main graph that are bfloat16, inputs included."""
    values = [*model.graph.inputs, *(o for node in model.graph for o in node.outputs)]
    return {str(v.name) for v in values if v.dtype == _BFLOAT16}


def interface_of(model: ir.Model) -> Interface:
    """The types of a model with values in bfloat16."""
    ends = (model.graph.inputs, model.graph.outputs)
    nodes = [n for n in model.graph if not (graphs.is_op(n, "Cast") and n.inputs[0] and n.inputs[0].dtype in _KINDS)]
    inputs, outputs = (tuple(str(v.name) for v in values if v.dtype == _BFLOAT16) for values in ends)
    inside, singles = (frozenset(str(n.name) for n in nodes if n.outputs[0].dtype == kind) for kind in _KINDS)
    return Interface(inputs, outputs, inside, singles)


def without_interface(model: ir.Model, interface: Interface) -> ir.Model:
    """A copy of a model with float32 inside whose inputs and outputs are float32, too."""
    copy = graphs.clone(model)
    graph = copy.graph
    for value in graph.inputs:
        if value.name in interface.inputs:
            value.type = ir.TensorType(_FLOAT)
            for use in tuple(value.uses()):
                if graphs.is_op(use.node, "Cast"):
                    use.node.outputs[0].replace_all_uses_with(value)
    for index, value in enumerate(graph.outputs):
        cast = value.producer()
        if value.name in interface.outputs and cast is not None and graphs.is_op(cast, "Cast"):
            inner, name = cast.inputs[0], str(value.name)
            assert inner is not None
            value.name = fresh_name(graph, f"{name}_bfloat16")
            if inner.producer() is not None and not inner.is_graph_output():
                inner.name = name
                graph.outputs[index] = inner
            else:
                value.name, value.type = name, ir.TensorType(_FLOAT)
                cast.attributes["to"] = ir.AttrInt64("to", _FLOAT.value)
    graphs.remove_dead(graph)
    return graphs.infer_shapes(copy)


def with_interface(model: ir.Model, interface: Interface) -> ir.Model:
    """A copy of a model whose named inputs and outputs are bfloat16 again, with a Cast at each; itself if none is."""
    if not interface.inputs and not interface.outputs:
        return model
    copy = graphs.clone(model)
    graph = copy.graph
    with naming(graph):
        for value in [v for v in graph.inputs if v.name in interface.inputs]:
            uses = tuple(value.uses())
            value.type = ir.TensorType(_BFLOAT16)
            cast = new_node(graph, "Cast", [value], f"{value.name}_to_float32", _FLOAT, {"to": _FLOAT.value})
            place_after(graph, value, [cast])
            for use in uses:
                use.node.replace_input_with(use.idx, cast.outputs[0])
        for index, value in enumerate(graph.outputs):
            if value.name in interface.outputs:
                name = str(value.name)
                value.name = fresh_name(graph, f"{name}_float32")
                cast = new_node(graph, "Cast", [value], f"{name}_cast", _BFLOAT16, {"to": _BFLOAT16.value})
                graph.append(cast)
                cast.outputs[0].name = name
                graph.outputs[index] = cast.outputs[0]
    return copy


def rounded(model: ir.Model, names: set[str]) -> ir.Model:
    """A copy of a float32 model in which these values are rounded to bfloat16."""
    copy = graphs.clone(model)
    graph = copy.graph
    values = [*graph.inputs, *(o for node in graph for o in node.outputs)]
    with naming(graph):
        for value in [v for v in values if v.name in names and v.dtype == _FLOAT]:
            down = new_node(graph, "Cast", [value], f"{value.name}_down", _BFLOAT16, {"to": _BFLOAT16.value})
            up = new_node(graph, "Cast", [down.outputs[0]], f"{value.name}_up", _FLOAT, {"to": _FLOAT.value})
            uses = [use for use in value.uses() if use.node is not down]
            place_after(graph, value, [down, up])
            for use in uses:
                use.node.replace_input_with(use.idx, up.outputs[0])
            for index, output in enumerate(graph.outputs):
                if output is value:
                    name = str(value.name)
                    value.name = fresh_name(graph, f"{name}_exact")
                    up.outputs[0].name = name
                    graph.outputs[index] = up.outputs[0]
    return graphs.infer_shapes(copy)
