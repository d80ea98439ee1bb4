"""Convolutions: plain, grouped, depthwise and transposed."""

from __future__ import annotations

from edgeprune.dependency.dims import AFFINE, NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.errors import RuleError

_WHY = "a convolution's batch or spatial axis"


@rule("Conv")
def conv(n: NodeView) -> Rel:
    """``n`` batch, ``g`` groups, ``i`` inputs and ``o`` outputs of each group."""
    return Rel("n (g i) ., (g o) i ., (g o) -> n (g o) .", {"g": n.attr("group", 1)}, zeros=AFFINE, why=_WHY)


@rule("ConvTranspose")
def conv_transpose(n: NodeView) -> Rel:
    """As Conv, but the weight's first axis is the inputs."""
    return Rel("n (g i) ., (g i) o ., (g o) -> n (g o) .", {"g": n.attr("group", 1)}, zeros=AFFINE, why=_WHY)


@rule("DeformConv")
def deform_conv(n: NodeView) -> Rel:
    """As Conv; all channels are read at the same offsets, unless these differ between groups of channels."""
    if n.attr("offset_group", 1) > 1:
        raise RuleError("its offsets differ from channel to channel")
    text = "n (g i) ., (g o) i ., n ., (g o), n . -> n (g o) ."
    return Rel(text, {"g": n.attr("group", 1)}, zeros=((0, 1), (3,)), why=_WHY)


@repair("Conv", "ConvTranspose", "DeformConv")
def conv_group(fix: Repair) -> None:
    """Set the number of remaining groups."""
    if fix.view.attr("group", 1) > 1:
        side = fix.out_length(0, 1) if fix.view.op == "ConvTranspose" else fix.length(0, 1)
        fix.set_attr("group", side // fix.length(1, 1))
