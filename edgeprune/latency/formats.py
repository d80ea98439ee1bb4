"""The forms in which a block can run, and the nodes that each form puts on integers.

fp32         everything in float
int8         every node of the block that has an integer kernel; the weighted node alone, where a function of the block
             has none (GELU): integers on both sides of a float function only cost conversions
int8-core    the weighted node alone (with the Relu or Clip it absorbs): the activation function after it stays float
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgeprune.costmodel import WEIGHTED_OPS, Block
from edgeprune.latency.block_latency import Format
from edgeprune.passes.x86 import CLIP_OPS, INT8_OPS, int8_eligible

FLOAT: Format = "fp32"
INT8: Format = "int8"
CORE: Format = "int8-core"

_INTEGER_FUNCTIONS = WEIGHTED_OPS | INT8_OPS

Int8Nodes = Mapping[Format, frozenset[str]]


def int8_nodes(model: ir.Model, blocks: Sequence[Block]) -> tuple[Int8Nodes, ...]:
    """For every block: format -> names of the nodes on integers. ``fp32`` is always there."""
    eligible = int8_eligible(model)
    nodes = {str(n.name): n for n in model.graph}
    return tuple(_forms(b, nodes, {n for n in b.nodes if eligible[n]}) for b in blocks)


def _forms(block: Block, nodes: Mapping[str, ir.Node], eligible: set[str]) -> Int8Nodes:
    forms: dict[Format, frozenset[str]] = {FLOAT: frozenset()}
    if block.anchor not in eligible:
        return forms
    if not block.weighted:
        forms[INT8] = frozenset(eligible)
        return forms
    out = nodes[block.anchor].outputs[0]
    clips = {str(c.name) for c in out.consumers() if c.op_type in CLIP_OPS and len(out.consumers()) == 1}
    core = frozenset({block.anchor} | (clips & eligible))
    forms[INT8] = frozenset(eligible) if _INTEGER_FUNCTIONS.issuperset(nodes[n].op_type for n in block.nodes) else core
    if core != forms[INT8]:
        forms[CORE] = core
    return forms
