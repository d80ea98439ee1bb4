"""Widths at which TensorRT still computes an attention in one kernel.

The fused kernel wants heads of one size for queries, keys and values, a multiple of 8 from 16 to 256. So two groups
that a search would choose apart, the dimensions of queries and keys and those of values, are tied: they have the same
size at every width. Whole heads are still removed one by one.

An attention that no one kernel computes in the dense network has nothing to lose, and is cut as other layers are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.costmodel import Cluster, Kernel, fused_attention, kernel_at, kernel_clusters, stack
from edgeprune.costmodel import fuse as fuse_nodes
from edgeprune.dependency import Analysis, TiedWidths, Widths, axis_lengths
from edgeprune.devices import Device
from edgeprune.latency.analytic_model import PrunedShapes


def head_widths(model: ir.Model, analysis: Analysis, device: Device) -> tuple[TiedWidths, ...]:
    """:func:`fused_heads` of a canonical model whose shapes are known.

    Raises:
        ModelError: a shape is not known.
    """
    fused = fuse_nodes(model)
    return fused_heads(kernel_clusters(fused), PrunedShapes(fused.shapes, axis_lengths(analysis.groups)), device)


def fused_heads(clusters: Sequence[Sequence[Cluster]], shapes: PrunedShapes, device: Device) -> tuple[TiedWidths, ...]:
    """The widths of head sizes at which every attention that is fused now stays fused.

    Attentions that share a group are tied to each other.

    Args:
        clusters: per kernel, its clusters.
        shapes: of all tensors, at any widths.
        device: on which the kernels run.
    """
    sets: list[tuple[set[int], list[Sequence[Cluster]]]] = []
    for one in clusters:
        if one[0].kind != "attention" or not _is_fused(kernel_at(one, shapes.at(shapes.lengths.sizes)), device):
            continue
        groups, attentions = _size_groups(one[0], shapes), [one]
        for other in [s for s in sets if s[0] & groups]:
            groups, attentions = groups | other[0], attentions + other[1]
            sets.remove(other)
        if groups:
            sets.append((groups, attentions))
    return tuple(_tied(sorted(groups), attentions, shapes, device) for groups, attentions in sets)


def _size_groups(attention: Cluster, shapes: PrunedShapes) -> set[int]:
    """The groups that cut the size of an attention's heads, of queries and keys or of values."""
    first, last = attention.anchor, attention.last_matmul
    found: set[int] = set()
    for value in (first.inputs[0], last.outputs[0]):
        assert value is not None
        rank = len(shapes.dense[str(value.name)])
        found |= {g for s in shapes.lengths.segments.get((str(value.name), rank - 1), ()) for g in s.groups}
    return found


def _tied(
    groups: Sequence[int], attentions: Sequence[Sequence[Cluster]], shapes: PrunedShapes, device: Device
) -> TiedWidths:
    """Every share of their units at which all groups keep whole units and all attentions are fused."""
    sizes = shapes.lengths.sizes
    own = sizes[list(groups)]
    least = int(own.min())
    options = [own * kept // least for kept in range(1, least + 1) if not (own * kept % least).any()]

    def stays_fused(option: Widths) -> bool:
        widths = sizes.copy()
        widths[list(groups)] = option
        return all(_is_fused(kernel_at(one, shapes.at(widths)), device) for one in attentions)

    return TiedWidths(tuple(groups), np.array([o for o in options if stays_fused(o)], np.int64))


def _is_fused(kernel: Kernel, device: Device) -> bool:
    return bool(fused_attention(stack([kernel]), "fp16", device).all())
