"""A network as a latency model sees it: blocks at fixed shapes, their formats, and the steps of their widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from edgeprune.costmodel import Block, partition
from edgeprune.dependency import Analysis, Cut, Group, Widths, axis_lengths
from edgeprune.graph import count_macs
from edgeprune.latency import formats as forms
from edgeprune.latency.block_latency import Edge, edges_of
from edgeprune.latency.features import Geometry, boundary, geometries
from edgeprune.latency.lowering import X86, Lowering
from edgeprune.passes.canonicalize import twin_nodes

DEPTHWISE_STEP = 16


@dataclass(frozen=True, eq=False)
class Network:
    """A network as a latency model sees it: blocks, their formats and their geometry at fixed shapes.

    ``lowering`` is how a CPU profile builds it; a GPU has its own builder.
    """

    model: ir.Model
    analysis: Analysis
    blocks: tuple[Block, ...]
    int8_nodes: tuple[forms.Int8Nodes, ...]
    geometries: tuple[Geometry, ...]
    edges: tuple[Edge, ...]
    sizes: Widths
    macs: int
    lowering: Lowering = X86

    @cached_property
    def twins(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of blocks that call the same layers again: they run in the same format."""
        nodes = twin_nodes(self.model)
        found: dict[frozenset[str], list[int]] = {}
        for number, block in enumerate(self.blocks):
            if block.anchor in nodes:
                found.setdefault(nodes[block.anchor], []).append(number)
        return tuple(tuple(numbers) for numbers in found.values() if len(numbers) > 1)

    @property
    def steps(self) -> tuple[int, ...]:
        """Per group, units that are removed together."""
        return channel_steps(self.model, self.analysis.groups)


def network(model: ir.Model, analysis: Analysis, fixed: ir.Model | None = None, lowering: Lowering = X86) -> Network:
    """Partition a canonical model into blocks.

    Args:
        model: the model that is built and timed; open dimensions stay open, as in the result.
        analysis: its analysis.
        fixed: the same model with all dimensions fixed, if some dimensions of ``model`` are open.
        lowering: to the runtime.
    """
    blocks = partition(model)
    lengths = axis_lengths(analysis.groups)
    shapes = geometries(fixed or model, blocks, lengths)
    return Network(
        model,
        analysis,
        blocks,
        lowering.int8_nodes(model, blocks),
        shapes,
        _edges(model, blocks),
        lengths.sizes,
        sum(count_macs(fixed or model).values()),
        lowering,
    )


def channel_steps(model: ir.Model, groups: Sequence[Group]) -> tuple[int, ...]:
    """Units of every group that are removed together, so that widths stay multiples that the kernels take.

    8 channels, fewer in small groups. 16 if a depthwise convolution runs over the channels: onnxruntime's INT8 kernel
    takes 16 at a time and the remaining ones one by one (184 channels take 2.5 times as long as 192).
    """
    depthwise = {str(w.name) for n in model.graph if (w := _depthwise_weight(n)) is not None}
    return tuple(
        DEPTHWISE_STEP
        if g.size >= DEPTHWISE_STEP and any(m.value in depthwise and m.axis == 0 for m in g.members)
        else _step(g)
        for g in groups
    )


def _depthwise_weight(node: ir.Node) -> ir.Value | None:
    if node.op_type != "Conv" or node.attributes.get_int("group", 1) == 1:
        return None
    weight = node.inputs[1]
    return weight if weight is not None and weight.shape is not None and weight.shape[1] == 1 else None


def _step(group: Group) -> int:
    for step in (8, 4, 2):
        if group.size % step == 0 and group.size >= 2 * step:
            return step if group.kind != "head" else 1
    return 1


def lowest_units(groups: Sequence[Group], widths: Widths) -> Cut:
    """A cut to these widths that keeps the first units of every group, for timing only."""
    return {g.id: np.arange(w, dtype=np.int64) for g, w in zip(groups, widths, strict=True) if w < g.size}


def _edges(model: ir.Model, blocks: Sequence[Block]) -> tuple[Edge, ...]:
    nodes = {str(n.name): n for n in model.graph}
    ends = [boundary([nodes[n] for n in block.nodes]) for block in blocks]
    readers = [[str(v.name) for v in read if v.const_value is None] for read, _ in ends]
    return edges_of([[str(v.name) for v in written] for _, written in ends], readers)
