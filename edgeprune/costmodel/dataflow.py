"""What moves through a graph at run time: values that are computed, seen through the nodes that only rename them.

Nodes whose result is known before the first inference (constants, arithmetic on shapes) are left out, and so are nodes
that move nothing: reshapes, casts that the next kernel absorbs, and movement that only matrix products, pointwise work
and reductions read: they take it up in their strides.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune.costmodel.op_types import SOFT_READERS, STRIDED, VIEWS
from edgeprune.errors import ModelError


@dataclass
class Dataflow:
    """``nodes``: the nodes that launch something, in graph order; ``shapes``: of every run-time value.

    ``sources``: value -> the computed values (or graph inputs) that back it, through views. ``users``: computed value
    -> launching nodes that read it. ``kept``: computed values that back a graph output. ``dequantized``: values that
    come straight from DequantizeLinear.
    """

    nodes: list[ir.Node]
    shapes: dict[str, tuple[int, ...]]
    sources: dict[str, tuple[str, ...]]
    users: dict[str, list[ir.Node]] = field(default_factory=lambda: defaultdict(list))
    kept: set[str] = field(default_factory=set)
    dequantized: set[str] = field(default_factory=set)

    def operands(self, node: ir.Node) -> list[str]:
        """Names of the node's run-time inputs."""
        return [str(v.name) for v in node.inputs if v is not None and str(v.name) in self.sources]

    def outputs(self, node: ir.Node) -> list[str]:
        """Names of the node's outputs."""
        return [str(v.name) for v in node.outputs if v.name]


def dataflow(model: ir.Model) -> Dataflow:
    """Read a model whose shapes are known.

    Raises:
        ModelError: if a run-time tensor's shape is not known; the text names it.
    """
    static = static_values(model)
    live = [n for n in model.graph if not all(str(v.name) in static for v in n.outputs if v.name)]
    shapes: dict[str, tuple[int, ...]] = {}
    for value in [*model.graph.inputs, *(v for n in live for v in (*n.inputs, *n.outputs) if v is not None and v.name)]:
        if (name := str(value.name)) not in shapes:
            shapes[name] = _shape(value, required=name not in static)
    absorbed = _absorbed(model, live)
    flow = Dataflow([], shapes, {str(v.name): (str(v.name),) for v in model.graph.inputs if str(v.name) not in static})
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
        known = node.op_type in ("Shape", "Size") and all(_is_known(v) for v in inputs)
        if known or all(str(v.name) in static or v.const_value is not None for v in inputs):
            static.update(str(v.name) for v in node.outputs if v.name)
    return static


def is_view(node: ir.Node, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether the node only renames its input: a transpose that moves axes of length 1 does."""
    if node.op_type in VIEWS:
        return True
    if node.op_type == "Transpose" and node.inputs[0] is not None:
        shape = shapes.get(str(node.inputs[0].name), ())
        perm = node.attributes.get("perm")
        order = list(perm.as_ints()) if perm is not None else list(reversed(range(len(shape))))
        moved = [axis for axis in order if shape[axis] != 1]
        return moved == sorted(moved)
    return False


def _absorbed(model: ir.Model, live: list[ir.Node]) -> set[ir.Node]:
    """Movement nodes that cost no launch: everything that reads them is soft, or a product wrote their operand."""
    outputs = {str(v.name) for v in model.graph.outputs}
    absorbed: set[ir.Node] = set()

    def soft(node: ir.Node) -> bool:
        readers = [reader for v in node.outputs for reader in v.consumers()]
        return (
            bool(readers)
            and all((r.op_type in SOFT_READERS or r in absorbed or (r.op_type in VIEWS and soft(r))) for r in readers)
            and not any(str(v.name) in outputs for v in node.outputs)
        )

    def written_by_product(node: ir.Node) -> bool:
        producer = node.inputs[0].producer() if node.inputs[0] is not None else None
        while producer is not None and (producer.op_type in VIEWS or producer in absorbed):
            producer = producer.inputs[0].producer() if producer.inputs[0] is not None else None
        return producer is not None and producer.op_type in ("MatMul", "Gemm")

    for node in reversed(live):
        if node.op_type in STRIDED and soft(node):
            absorbed.add(node)
    for node in live:
        if node.op_type in ("Transpose", "Split") and written_by_product(node):
            absorbed.add(node)
    return absorbed


def _is_known(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(d, int) for d in value.shape)


def _shape(value: ir.Value, *, required: bool) -> tuple[int, ...]:
    if value.const_value is not None:
        return tuple(value.const_value.shape.numpy())
    if value.shape is None or not _is_known(value):
        if required:
            raise ModelError(
                f"the shape of tensor {value.name} is not known: fix the model's inputs with --shape NAME=1x3x224x224"
            )
        return ()
    return tuple(d for d in value.shape if isinstance(d, int))
