"""The formats in which a block can run on a CPU, and the nodes that each format runs in INT8.

fp32         all nodes in float
int8         all nodes of the block that have an INT8 kernel in INT8; only the weighted node if a function of the block
             has none (GELU), because INT8 on both sides of a float function only costs conversions
int8-core    only the weighted node in INT8, with the Relu or Clip that it absorbs; the activation behind it stays float
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
INT8_ARM: Format = "int8_arm"
"""The name of ``int8`` in profiles and notes where activations are signed, too."""

Int8Nodes = Mapping[Format, frozenset[str]]


def int8_nodes(model: ir.Model, blocks: Sequence[Block]) -> tuple[Int8Nodes, ...]:
    """For every block: format -> names of the INT8 nodes. ``fp32`` is always included."""
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
    known = all(nodes[n].op_type in WEIGHTED_OPS | INT8_OPS for n in block.nodes)
    forms[INT8] = frozenset(eligible) if known else core
    if core != forms[INT8]:
        forms[CORE] = core
    return forms
