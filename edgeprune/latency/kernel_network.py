"""A network as TensorRT runs it: every kernel is a block, for which widths and a precision are chosen."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.costmodel import Block, Kernel, fuse, kernel_at, kernel_clusters, runs_int8, successive_readers
from edgeprune.dependency import Analysis, Branch, Group, TiedWidths, axis_lengths
from edgeprune.devices import Device
from edgeprune.graph import count_macs
from edgeprune.latency.analytic_model import SPARSE, AnalyticModel, PrunedShapes
from edgeprune.latency.block_latency import Edge, Format
from edgeprune.latency.block_network import Network
from edgeprune.latency.dropped_blocks import dropped_blocks
from edgeprune.latency.features import geometries
from edgeprune.latency.formats import INT8
from edgeprune.latency.fused_heads import fused_heads
from edgeprune.passes.tensorrt import MIN_CHANNELS, int8_eligible

SMALLEST_SHARE = 0.125
"""No group is cut below this share of its units."""


@dataclass(frozen=True, eq=False)
class GpuNetwork:
    """A network whose blocks are kernels, its latency model, and the widths that each group may have.

    ``tied``: groups whose levels are chosen together; they have as many levels as each other.
    """

    network: Network
    latency: AnalyticModel
    levels: tuple[NDArray[np.int64], ...]
    tied: tuple[tuple[int, ...], ...] = ()


def gpu_network(
    model: ir.Model,
    analysis: Analysis,
    device: Device,
    formats: Sequence[Format],
    *,
    step: int,
    error: float,
    sparse: Collection[str] = (),
    branches: Mapping[str, Branch] | None = None,
) -> GpuNetwork:
    """Describe a canonical model with fixed shapes.

    Args:
        model: the model.
        analysis: its analysis.
        device: the device on which it will run.
        formats: formats that a kernel may have, the float one first; ``int8`` only if TensorRT has it.
        step: multiple to which channel counts are cut.
        error: typical relative error of predictions for the device, as a fraction.
        sparse: names of the nodes whose weights may be 2:4 sparse: their kernels also have every format with 2:4.
        branches: group id -> the residual branch that goes if no unit of the group stays.

    Raises:
        ModelError: a shape is not known.
    """
    fused = fuse(model)
    lengths = axis_lengths(analysis.groups)
    shapes = PrunedShapes(fused.shapes, lengths)
    clusters = kernel_clusters(fused)
    nodes_of = {node.name for node in model.graph}
    kernels, groups = [], []
    for one in clusters:
        whole = shapes.at(lengths.sizes)
        kernel = kernel_at(one, whole)  # what runs inside a body is no node for which a format is chosen
        kernels.append(replace(kernel, nodes=tuple(n for n in kernel.nodes if n in nodes_of)))
        groups.append(frozenset(g for name in whole.used for g in shapes.groups(name)))
    eligible = int8_eligible(model)
    is_int8 = [
        frozenset(n for n in k.nodes if eligible[n]) if runs_int8(k) and INT8 in formats else frozenset()
        for k in kernels
    ]
    floating = formats[0]
    dense = [{floating: frozenset[str]()} | ({INT8: n} if n else {}) for n in is_int8]
    nodes = tuple(
        forms | ({f"{fmt}{SPARSE}": n for fmt, n in forms.items()} if set(k.nodes) & set(sparse) else {})
        for k, forms in zip(kernels, dense, strict=True)
    )
    edges, shared = _conversions(kernels)
    dropped = dropped_blocks(kernels, analysis.groups, branches or {})
    for number, of in dropped.items():
        for b in of.gone | of.scaled:
            groups[b] |= {number}
    for edge in edges:
        groups[edge.writer] |= shapes.groups(shared[edge.tensor])
    blocks = tuple(Block(f"b{i:04d}", k.anchor, k.nodes, k.weighted and runs_int8(k)) for i, k in enumerate(kernels))
    heads = fused_heads(clusters, shapes, device)
    levels = tuple(levels_of(g, step, MIN_CHANNELS if INT8 in formats else 1) for g in analysis.groups)
    levels = tuple(np.insert(v, 0, 0) if g in dropped else v for g, v in enumerate(levels))
    levels = with_tied(levels, heads)
    available = tuple(tuple(n) for n in nodes)
    latency = AnalyticModel(
        clusters, shapes, available, tuple(groups), edges, shared, levels, device, error, dropped=dropped
    )
    macs = sum(count_macs(model).values())
    described = geometries(model, blocks, lengths)
    network = Network(model, analysis, blocks, nodes, described, edges, lengths.sizes, macs)
    return GpuNetwork(network, latency, levels, tuple(h.groups for h in heads))


def levels_of(group: Group, step: int, least: int = 1) -> NDArray[np.int64]:
    """Widths that a group may have, ascending, in units: multiples of ``step`` channels, and at least ``least``.

    The step is halved if a group is too small for it. Heads and groups are removed one by one.
    """
    if group.kind in ("head", "group"):
        widths = np.arange(1, group.size + 1, dtype=np.int64)
    else:
        positions = min(int(np.bincount(m.unit[m.unit >= 0]).max()) for m in group.members)
        units = max(1, step // math.gcd(positions, step))
        while units > 1 and 2 * units > group.size:
            units //= 2
        widths = np.arange(units, group.size + 1, units, dtype=np.int64)
        if group.size * positions >= least:
            widths = widths[widths * positions >= least]
    widths = widths[widths >= SMALLEST_SHARE * group.size]
    return widths if len(widths) and widths[-1] == group.size else np.append(widths, group.size)


def with_tied(levels: Sequence[NDArray[np.int64]], tied: Sequence[TiedWidths]) -> tuple[NDArray[np.int64], ...]:
    """The levels, where tied groups have only the widths that are a level of every one of them."""
    found = list(levels)
    for one in tied:
        both = [bool(all(w in levels[g] for g, w in zip(one.groups, option, strict=True))) for option in one.options]
        for g, widths in zip(one.groups, one.options[both].T, strict=True):
            found[g] = widths
    return tuple(found)


def _conversions(kernels: Sequence[Kernel]) -> tuple[tuple[Edge, ...], tuple[str, ...]]:
    """Edges between every two successive readers of a computed tensor, and the names of these tensors."""
    found = successive_readers(kernels)
    shared = tuple(dict.fromkeys(value for _, _, value in found))
    numbers = {value: t for t, value in enumerate(shared)}
    return tuple(Edge(a, b, numbers[value]) for a, b, value in found), shared
