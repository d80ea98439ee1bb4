"""Pooling, resizing, pixel shuffles, sampling: spatial axes stay, channels pass."""

from __future__ import annotations

import numpy as np

from edgeprune.dependency.dims import LINEAR, NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.dependency.rules.axis_text import axes
from edgeprune.errors import RuleError

_WHY = "a batch or spatial axis"


@rule("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "LpPool")
def pool(n: NodeView) -> Rel:
    """Channel by channel."""
    return Rel("n c . -> n c .", zeros=LINEAR, why=_WHY)


@rule("MaxPool")
def max_pool(n: NodeView) -> Rel:
    """Channel by channel; the optional indices number all channels."""
    if n.outputs > 1 and (n.node.outputs[1].uses() or n.node.outputs[1].is_graph_output()):
        raise RuleError("its indices count through the channels")
    return Rel("n c . -> n c ., .", zeros=LINEAR, why=_WHY)


@rule("Resize", "Upsample")
def resize(n: NodeView) -> Rel:
    """Axes that keep their length pass."""
    if n.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise RuleError("crops by a region of interest")
    before, after = n.shape(0), n.out_shape()
    at = 1 if n.opset < 11 else 2
    scales = n.attr("scales") if n.op == "Upsample" and not n.has(1) else n.lengths(at) if n.has(at) else None
    chosen = [n.axis(k, len(before)) for k in n.attr("axes", range(len(before)))]
    factor = {} if scales is None else dict(zip(chosen, scales, strict=False))
    same = {
        k
        for k in range(len(before))
        if k not in chosen or (before[k] == after[k] and isinstance(before[k], int) and factor.get(k, 1.0) == 1.0)
    }
    if scales is None and not n.has(3):
        raise RuleError("its scales are not constant")
    whole = axes(len(before), {k: "." for k in range(len(before)) if k not in same})
    return Rel(", ".join([whole] + ["."] * (n.inputs - 1)) + f" -> {whole}", zeros=LINEAR, why="this axis is resized")


@repair("Resize")
def resize_sizes(fix: Repair) -> None:
    """Set the remaining lengths, if the node has lengths."""
    sizes = fix.view.const(3)
    if not fix.has_input(3) or (sizes is not None and not np.size(sizes)):
        return
    rank = fix.view.rank(0)
    chosen = [fix.view.axis(k, rank) for k in fix.view.attr("axes", range(rank))]
    if sizes is None:
        new_lengths = {at: int(fix.out_length(0, k)) for at, k in enumerate(chosen) if fix.kept(0, k) is not None}
        fix.replace_elements(3, new_lengths)
        return
    new = [int(fix.out_length(0, k)) for k in chosen]
    if new != [int(x) for x in sizes]:
        fix.set_input(3, np.asarray(new, dtype=np.int64))


@rule("DepthToSpace")
def depth_to_space(n: NodeView) -> Rel:
    """Channels ``(b b c)`` or, in mode CRD, ``(c b b)`` become ``c``."""
    whole = "(c !b !e)" if n.attr("mode", "DCR") == "CRD" else "(!b !e c)"
    block = n.attr("blocksize")
    return Rel(f"n {whole} . -> n c .", {"b": block, "e": block}, zeros=LINEAR, why="the block of a pixel shuffle")


@rule("SpaceToDepth")
def space_to_depth(n: NodeView) -> Rel:
    """Channels ``c`` become ``(b b c)`` or, in mode CRD, ``(c b b)``."""
    whole = "(c !b !e)" if n.attr("mode", "DCR") == "CRD" else "(!b !e c)"
    block = n.attr("blocksize")
    return Rel(f"n c . -> n {whole} .", {"b": block, "e": block}, zeros=LINEAR, why="the block of a pixel shuffle")


@rule("Col2Im")
def col_to_im(n: NodeView) -> Rel:
    """Channels ``(c k)``, with ``k`` the positions of a block, are summed into images of ``c`` channels."""
    block = int(np.prod(n.ints(2)))
    spatial = " ".join(["."] * (len(n.out_shape()) - 2))
    return Rel(f"n (c !k) ., ., . -> n c {spatial}", {"k": block}, zeros=LINEAR, why="a block's position")


@rule("GridSample")
def grid_sample(n: NodeView) -> Rel:
    """Channel by channel, at the positions of the grid."""
    return Rel("n c ., n . -> n c .", zeros=LINEAR if n.attr("padding_mode", "zeros") == "zeros" else None, why=_WHY)


@rule("RoiAlign", "MaxRoiPool")
def roi(n: NodeView) -> Rel:
    """Channel by channel, in the regions of the other operands."""
    terms = ", ".join([". c ."] + ["."] * (n.inputs - 1))
    return Rel(f"{terms} -> . c .", why="a region's axis")
