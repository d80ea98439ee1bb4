"""Which nodes share a kernel, after TensorRT's documentation and logs.

A convolution or MatMul takes a bias, one residual addition and one activation. Longer pointwise tails are ``complex``:
whether TensorRT fuses them depends on precision and architecture, so the cost model decides. A chain of pointwise nodes
is one kernel. Normalizations and softmax take the pointwise nodes around them (Myelin's regions). Softmax(Q Kᵀ) V is
one kernel. Nodes are not fused if two kernels would wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune.costmodel.blocks import POINTWISE_OPS
from edgeprune.costmodel.bodies import Flat, flatten_bodies
from edgeprune.costmodel.dataflow import Dataflow, dataflow
from edgeprune.costmodel.kernel import Epilogue, Kind
from edgeprune.costmodel.op_types import ACTIVATIONS, ALONE, CONTRACTION_OPS, GENERATED, NMS_PLUGINS, REDUCTIONS
from edgeprune.graph import ONNX_DOMAINS, is_op


@dataclass
class Cluster:
    """Nodes that share a kernel; see `edgeprune.costmodel.Kernel` for the fields of the same names."""

    anchor: ir.Node
    kind: Kind
    nodes: list[ir.Node]
    elements: int
    tail: list[str] = field(default_factory=list)
    residuals: list[str] = field(default_factory=list)
    before: set[int] = field(default_factory=set)
    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    sides: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    input: str = ""
    output: str = ""
    window: int = 1
    quantized: bool = False
    image: bool = False
    weighted: bool = True
    repeats: int = 1

    @property
    def last_matmul(self) -> ir.Node:
        """The MatMul that computes an attention's result."""
        return [n for n in self.nodes if n.op_type == "MatMul"][-1]

    @property
    def epilogue(self) -> Epilogue:
        """Whether a precompiled kernel can run the tail."""
        if not self.tail:
            return "none"
        simple = self.tail in (["add"], ["act"], ["add", "act"])
        return "simple" if simple or self.kind in ("matmul", "attention") else "complex"


@dataclass(frozen=True)
class Fused:
    """Clusters in launch order, the shapes of all run-time values, and a sentence on every body that is a guess."""

    clusters: tuple[Cluster, ...]
    shapes: dict[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()


def fuse(model: ir.Model) -> Fused:
    """Group the nodes of a model whose shapes are known into clusters.

    Raises:
        ModelError: the shape of a run-time tensor is not known.
    """
    flat = flatten_bodies(model)
    flow = dataflow(flat.model)
    state = _State(flow, flat)
    attentions = {node: members for members in _attentions(flow) for node in members}
    for node in flow.nodes:
        if node in attentions:
            if (members := attentions[node])[-1] is node:
                state.open(next(n for n in members if n.op_type == "MatMul"), "attention", members)
        elif is_op(node, *CONTRACTION_OPS) and _is_contraction(node):
            kind: Kind = "depthwise" if _is_depthwise(node, flow) else "conv" if node.op_type == "Conv" else "matmul"
            state.open(node, kind, [node])
        elif is_op(node, *POINTWISE_OPS):
            state.add_pointwise(node)
        elif is_op(node, *REDUCTIONS):
            state.add_reduction(node)
        else:
            state.open(node, _kind_alone(node, flow), [node])
    return Fused(tuple(_finish(c, flow) for c in state.clusters), flow.shapes, flat.notes)


class _State:
    """Clusters so far, and which cluster computes which value."""

    def __init__(self, flow: Dataflow, flat: Flat) -> None:
        self.flow, self.flat = flow, flat
        self.clusters: list[Cluster] = []
        self.home: dict[str, int] = {}

    def open(self, anchor: ir.Node, kind: Kind, nodes: list[ir.Node]) -> None:
        largest = max((math.prod(self.flow.shapes[v]) for n in nodes for v in self.flow.outputs(n)), default=1)
        if kind == "reduce" and anchor.op_type in REDUCTIONS:
            largest = max([largest, *(math.prod(self.flow.shapes[v]) for v in self.flow.operands(anchor))])
        self.clusters.append(Cluster(anchor, kind, [], largest, repeats=self.flat.repeats(str(anchor.name))))
        for node in nodes:
            self._put(node, len(self.clusters) - 1)

    def add_pointwise(self, node: ir.Node) -> None:
        size = math.prod(self.flow.shapes[self.flow.outputs(node)[0]])
        for index in self._candidates(node):
            cluster = self.clusters[index]
            alone = cluster.kind in ("pool", "copy", "concat", "nms", "unknown")
            if alone or cluster.elements != size or not self._same_runs(node, index) or self._circular(node, index):
                continue
            if cluster.kind in ("pointwise", "reduce"):
                self._put(node, index)
                return
            if self._attach(node, index):
                return
        self.open(node, "pointwise", [node])

    def add_reduction(self, node: ir.Node) -> None:
        size = max((math.prod(self.flow.shapes[v]) for v in self.flow.operands(node)), default=1)
        for index in self._candidates(node):
            cluster = self.clusters[index]
            open_ = cluster.kind in ("pointwise", "reduce") and self._same_runs(node, index)
            if open_ and cluster.elements == size and not self._circular(node, index):
                if cluster.kind == "pointwise":
                    cluster.kind, cluster.anchor = "reduce", node
                self._put(node, index)
                return
        self.open(node, "reduce", [node])

    def _attach(self, node: ir.Node, index: int) -> bool:
        """Try to make the node part of the tail of a convolution or MatMul."""
        cluster, flow = self.clusters[index], self.flow
        outside = [v for v in flow.operands(node) if any(self.home.get(s) != index for s in flow.sources[v])]
        larger = any(math.prod(flow.shapes[v]) > cluster.elements for v in outside)
        if larger or len(cluster.residuals) + len(outside) > 1:
            return False
        if outside:
            cluster.residuals += outside
            cluster.tail.append("add" if node.op_type == "Add" else "mix")
        elif node.op_type in ACTIVATIONS:
            cluster.tail.append("mix" if node.op_type in GENERATED else "act")
        elif len(flow.operands(node)) > 1 or node.op_type not in ("Add", "Sub", "Mul", "Div"):
            cluster.tail.append("mix")
        # Otherwise it is a bias or a scale by a constant, which every kernel takes.
        self._put(node, index)
        return True

    def _candidates(self, node: ir.Node) -> list[int]:
        """Clusters that compute the node's operands, latest first."""
        homes = {self.home[s] for v in self.flow.operands(node) for s in self.flow.sources[v] if s in self.home}
        return sorted(homes, reverse=True)

    def _same_runs(self, node: ir.Node, index: int) -> bool:
        """Whether node and cluster run equally often: a kernel is inside a loop, or outside."""
        return self.clusters[index].repeats == self.flat.repeats(str(node.name))

    def _circular(self, node: ir.Node, index: int) -> bool:
        """Whether another operand of the node depends on the cluster: then the node cannot be part of it."""
        stack = [i for i in self._candidates(node) if i != index]
        seen: set[int] = set()
        while stack:
            i = stack.pop()
            if i == index:
                return True
            if i not in seen:
                seen.add(i)
                stack += self.clusters[i].before
        return False

    def _put(self, node: ir.Node, index: int) -> None:
        cluster = self.clusters[index]
        cluster.nodes.append(node)
        cluster.before.update(i for i in self._candidates(node) if i != index)
        for name in self.flow.outputs(node):
            self.home[name] = index


def _attentions(flow: Dataflow) -> Iterable[list[ir.Node]]:
    """Chains of MatMul, pointwise nodes, Softmax, MatMul, whose intermediate results have no other reader."""
    computed_by = {name: n for n in flow.nodes for name in flow.outputs(n)}

    def producer(node: ir.Node, position: int = 0) -> ir.Node | None:
        value = node.inputs[position] if position < len(node.inputs) else None
        sources = flow.sources.get(str(value.name), ()) if value is not None else ()
        return computed_by.get(sources[0]) if len(sources) == 1 else None

    def only_user(node: ir.Node) -> ir.Node | None:
        name = flow.outputs(node)[0]
        users = flow.users[name]
        return users[0] if len(users) == 1 and name not in flow.kept else None

    for softmax in flow.nodes:
        if softmax.op_type != "Softmax":
            continue
        chain = [softmax]
        while (up := producer(chain[0])) is not None and only_user(up) is chain[0] and up.op_type in POINTWISE_OPS:
            chain.insert(0, up)
        first, last = producer(chain[0]), only_user(softmax)
        if first is None or last is None or first.op_type != "MatMul" or last.op_type != "MatMul":
            continue
        if only_user(first) is chain[0] and len(flow.operands(first)) == 2 and len(flow.operands(last)) == 2:
            before = [p for position in (0, 1) if (p := producer(first, position)) is not None]
            scales = [p for p in before if p.op_type in ("Mul", "Div") and len(flow.operands(p)) == 1]
            yield [*(p for p in scales if only_user(p) is first), first, *chain, last]


def _is_contraction(node: ir.Node) -> bool:
    """Whether a node is a matrix multiplication; an Einsum is one if it has two operands and states its indices."""
    return node.op_type != "Einsum" or (
        len(node.inputs) == 2 and "->" in node.attributes["equation"].as_string() and "..." not in str(node.attributes)
    )


def _kind_alone(node: ir.Node, flow: Dataflow) -> Kind:
    """Kind of a node that is not fused; the operands of a Concat of feature maps may be written in place."""
    if node.op_type in NMS_PLUGINS:
        return "nms"
    if node.domain not in ONNX_DOMAINS:
        return "unknown"
    maps = node.op_type == "Concat" and len(flow.shapes[flow.outputs(node)[0]]) >= 4
    if maps and node.attributes["axis"].as_int() in (1, -3):
        return "concat"
    return ALONE.get(node.op_type, "unknown")


def _is_depthwise(node: ir.Node, flow: Dataflow) -> bool:
    group = node.attributes.get_int("group", 1)
    return node.op_type == "Conv" and 1 < group == flow.shapes[flow.operands(node)[0]][1]


def _finish(cluster: Cluster, flow: Dataflow) -> Cluster:
    """Fill in what the cluster reads from and writes to memory."""
    inside = {name for n in cluster.nodes for name in flow.outputs(n)}
    members = set(cluster.nodes)
    operands = [v for n in cluster.nodes for v in flow.operands(n)]
    cluster.reads = list(dict.fromkeys(v for v in operands if any(s not in inside for s in flow.sources[v])))
    cluster.writes = [
        v for v in dict.fromkeys(inside) if v in flow.kept or any(u not in members for u in flow.users[v])
    ]
    cluster.sources = list(dict.fromkeys(s for v in cluster.reads for s in flow.sources[v] if s not in inside))
    last = flow.outputs(cluster.nodes[-1])[0]
    cluster.output = last
    cluster.input = cluster.reads[0] if cluster.reads else last
    first = flow.sources[flow.operands(cluster.anchor)[0]] if cluster.kind == "conv" else ()
    cluster.image = any(source in flow.inputs for source in first)
    cluster.quantized = any(v in flow.dequantized for v in flow.operands(cluster.anchor)[:1])
    if cluster.kind in ("conv", "depthwise", "matmul", "attention"):
        cluster.input = flow.operands(cluster.anchor)[0]
        cluster.weighted = len(flow.operands(cluster.anchor)) == 1
        cluster.sides = list(cluster.residuals) + [v for v in cluster.writes if v != last]
    if cluster.kind == "copy" and cluster.anchor.op_type in ("Slice", "Split", "Gather", "GatherND", "GatherElements"):
        cluster.reads = list(cluster.writes)
    if cluster.kind == "pool" and (window := cluster.anchor.attributes.get("kernel_shape")) is not None:
        cluster.window = math.prod(window.as_ints())
    return cluster
