"""The run-time data flow of a graph: computed values and the nodes that read them, without nodes that copy nothing.

Nodes whose result is known before the first inference (constants, arithmetic on shapes) are left out. So are nodes that
copy nothing: reshapes, casts that the next kernel absorbs, and movement that only MatMuls, pointwise nodes and
reductions read, because their kernels read with strides.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune.costmodel.data_dependent import bounded_shapes
from edgeprune.costmodel.op_types import NO_KERNELS, SOFT_READERS, STRIDED
from edgeprune.errors import ModelError
from edgeprune.graph import UNRESOLVED, contradiction, ints_attribute, static_shape


@dataclass
class Dataflow:
    """The data flow between kernels.

    Attributes:
        nodes: nodes that need a kernel, in graph order.
        shapes: shape of every run-time value.
        sources: value -> the computed values (or graph inputs) behind it, through nodes that copy nothing.
        users: computed value -> nodes with a kernel that read it.
        kept: computed values behind a graph output.
        dequantized: values that come directly from DequantizeLinear.
        inputs: the model's inputs.
    """

    nodes: list[ir.Node]
    shapes: dict[str, tuple[int, ...]]
    sources: dict[str, tuple[str, ...]]
    users: dict[str, list[ir.Node]] = field(default_factory=lambda: defaultdict(list))
    kept: set[str] = field(default_factory=set)
    dequantized: set[str] = field(default_factory=set)
    inputs: frozenset[str] = frozenset()

    def operands(self, node: ir.Node) -> list[str]:
        """Names of the node's run-time inputs."""
        return [str(v.name) for v in node.inputs if v is not None and str(v.name) in self.sources]

    def outputs(self, node: ir.Node) -> list[str]:
        """Names of the node's outputs."""
        return [str(v.name) for v in node.outputs if v.name]


def dataflow(model: ir.Model) -> Dataflow:
    """The data flow of a model whose shapes are known.

    Raises:
        ModelError: the shape of a run-time tensor is not known; the message names the tensor.
    """
    static = static_values(model)
    live = [n for n in model.graph if not all(str(v.name) in static for v in n.outputs if v.name)]
    bounded = bounded_shapes(model)
    shapes: dict[str, tuple[int, ...]] = {}
    for value in [*model.graph.inputs, *(v for n in live for v in (*n.inputs, *n.outputs) if v is not None and v.name)]:
        if (name := str(value.name)) not in shapes:
            required = name not in static and name not in bounded
            shapes[name] = bounded[name] if name in bounded else _shape(model, value, required=required)
    absorbed = _absorbed(model, live)
    inputs = frozenset(str(v.name) for v in model.graph.inputs if str(v.name) not in static)
    flow = Dataflow([], shapes, {name: (name,) for name in inputs}, inputs=inputs)
    for node in live:
        if is_view(node, flow.shapes) or node in absorbed:
            through = tuple(dict.fromkeys(s for v in flow.operands(node) for s in flow.sources[v]))
            for name in flow.outputs(node):
                flow.sources[name] = through
            if node.op_type == "DequantizeLinear" or any(v in flow.dequantized for v in flow.operands(node)):
                flow.dequantized.update(flow.outputs(node))
            continue
        flow.nodes.append(node)
        for source in dict.fromkeys(s for v in flow.operands(node) for s in flow.sources[v]):
            flow.users[source].append(node)
        for name in flow.outputs(node):
            flow.sources[name] = (name,)
    for value in model.graph.outputs:
        flow.kept.update(flow.sources.get(str(value.name), ()))
    return flow


def static_values(model: ir.Model) -> set[str]:
    """Values that do not depend on the graph's inputs, only on their shapes."""
    static = {name for name, v in model.graph.initializers.items() if v.const_value is not None}
    for node in model.graph:
        inputs = [v for v in node.inputs if v is not None]
        known = node.op_type in ("Shape", "Size") and all(static_shape(v) is not None for v in inputs)
        if known or all(str(v.name) in static or v.const_value is not None for v in inputs):
            static.update(str(v.name) for v in node.outputs if v.name)
    return static


def is_view(node: ir.Node, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether the node copies nothing; this includes a Transpose that only moves axes of length 1."""
    if node.op_type in NO_KERNELS:
        return True
    if node.op_type == "Transpose" and node.inputs[0] is not None:
        shape = shapes.get(str(node.inputs[0].name), ())
        order = ints_attribute(node, "perm") or tuple(reversed(range(len(shape))))
        moved = [axis for axis in order if shape[axis] != 1]
        return moved == sorted(moved)
    return False


def _absorbed(model: ir.Model, live: list[ir.Node]) -> set[ir.Node]:
    """Movement nodes without a kernel: all their readers take any access pattern, or a MatMul wrote their operand."""
    outputs = {str(v.name) for v in model.graph.outputs}
    absorbed: set[ir.Node] = set()

    def soft(node: ir.Node) -> bool:
        readers = [reader for v in node.outputs for reader in v.consumers()]
        return (
            bool(readers)
            and all(
                r.op_type in SOFT_READERS or r in absorbed or (r.op_type in NO_KERNELS and soft(r)) for r in readers
            )
            and not any(str(v.name) in outputs for v in node.outputs)
        )

    def written_by_matmul(node: ir.Node) -> bool:
        producer = node.inputs[0].producer() if node.inputs[0] is not None else None
        while producer is not None and (producer.op_type in NO_KERNELS or producer in absorbed):
            producer = producer.inputs[0].producer() if producer.inputs[0] is not None else None
        return producer is not None and producer.op_type in ("MatMul", "Gemm")

    for node in reversed(live):
        if node.op_type in STRIDED and soft(node):
            absorbed.add(node)
    for node in live:
        if node.op_type in ("Transpose", "Split") and written_by_matmul(node):
            absorbed.add(node)
    return absorbed


def _shape(model: ir.Model, value: ir.Value, *, required: bool) -> tuple[int, ...]:
    if value.const_value is not None:
        return tuple(value.const_value.shape.numpy())
    shape = static_shape(value)
    if shape is not None and 0 in shape and value.is_graph_input():
        raise ModelError(f"input {value.name} has an axis of length 0: there is nothing to run")
    if shape is None and required:
        node = value.producer()
        opened = [str(v.name) for v in model.graph.inputs if not v.is_initializer() and static_shape(v) is None]
        if invalid := contradiction(model):
            help_text = f"the model is not valid ({invalid})"
        elif opened and UNRESOLVED not in str(value.shape):
            help_text = f"give --shape NAME=SIZES for {', '.join(opened)}"
        else:
            help_text = f"it depends on the data ({node.op_type} {node.name!r})" if node else "it is not declared"
        raise ModelError(f"the shape of tensor {value.name} is not known: {help_text}")
    return shape or ()
