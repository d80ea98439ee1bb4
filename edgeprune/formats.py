"""The forms in which a block can run, and the nodes that each form puts on integers.

fp32         everything in float
int8         every node of the block that has an integer kernel
int8-core    the weighted node alone (with the Relu or Clip it absorbs): the activation function after it stays float
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgeprune.blocks import Block
from edgeprune.latency import Format
from edgeprune.passes.quantize import CLIP_OPS, int8_eligible

FLOAT: Format = "fp32"
INT8: Format = "int8"
CORE: Format = "int8-core"

IntegerNodes = Mapping[Format, frozenset[str]]


def integer_nodes(model: ir.Model, blocks: Sequence[Block]) -> tuple[IntegerNodes, ...]:
    """For every block: format -> names of the nodes on integers. ``fp32`` is always there."""
    eligible = int8_eligible(model)
    nodes = {str(n.name): n for n in model.graph}
    return tuple(_forms(b, nodes, {n for n in b.nodes if eligible[n]}) for b in blocks)


def _forms(block: Block, nodes: Mapping[str, ir.Node], eligible: set[str]) -> IntegerNodes:
    forms: dict[Format, frozenset[str]] = {FLOAT: frozenset()}
    if block.anchor not in eligible:
        return forms
    forms[INT8] = frozenset(eligible)
    if block.weighted:
        out = nodes[block.anchor].outputs[0]
        clips = {str(c.name) for c in out.consumers() if c.op_type in CLIP_OPS and len(out.consumers()) == 1}
        core = frozenset({block.anchor} | (clips & eligible))
        if core != forms[INT8]:
            forms[CORE] = core
    return forms
