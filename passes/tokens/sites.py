"""Where tokens may leave: the sums of residual branches behind which everything allows fewer tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.graph import Refused, dim_keys, is_op
from edgeprune.passes.tokens.restore import note_reads, note_uses
from edgeprune.passes.tokens.token_ends import HANDLERS
from edgeprune.passes.tokens.token_flow import Place, TokenAxis, TokenFlow, general_step

LEAST_TOKENS = 8
"""Fewer tokens than this are not worth matching."""

LATER = Refused("tokens that leave later are needed")

TOKEN_AXIS = 1
"""Tokens are matched in values of shape (batch, tokens, channels)."""


@dataclass(frozen=True)
class Site:
    """A value at which tokens may leave.

    Attributes:
        value: its name.
        node: the sum that computes it.
        tokens: how many there are.
        protected: how many at the beginning always stay.
        attentions: how many self-attentions are behind it.
        linears: how many MatMuls with weights read tokens behind it.
    """

    value: str
    node: str
    tokens: int
    protected: int
    attentions: int
    linears: int


def token_sites(model: ir.Model) -> tuple[Site, ...] | Refused:
    """The sites of a canonical model in the order of the graph; why there are none, if it has attention.

    All sites are on one token axis, from the first sum on behind which tokens may leave.
    """
    values = [v for v in map(_sum_of_tokens, model.graph) if v is not None]
    if not any(is_op(n, "Softmax", "Attention") for n in model.graph):
        return Refused("the model has no attention")
    if not values:
        return Refused("no residual sum has the shape (batch, tokens, channels) with a fixed number of tokens")
    reasons: list[Refused] = []
    first: TokenFlow | None = None
    found: list[Site] = []
    for value in values:
        if first is not None and first.on(value, TOKEN_AXIS) is None:
            continue
        flow = flow_from(model.graph, value)
        if isinstance(flow, Refused):
            reasons.append(flow)
        elif first is None and not flow.self_attentions:
            reasons += flow.reasons[:1]
        else:
            first = first or flow
            if flow.linears:
                node = value.producer()
                assert node is not None
                found.append(
                    Site(
                        str(value.name), str(node.name), flow.count, flow.protected, flow.self_attentions, flow.linears
                    )
                )
    if not found:
        return reasons[0] if reasons else Refused("no self-attention reads all tokens of a residual sum")
    protected = max(site.protected for site in found)
    return tuple(Site(s.value, s.node, s.tokens, protected, s.attentions, s.linears) for s in found)


def flow_from(graph: ir.Graph, value: ir.Value, whole: Sequence[Place] = ()) -> TokenFlow | Refused:
    """The tokens behind a value of shape (batch, tokens, channels), or why none may leave there.

    Args:
        graph: of the model.
        value: where they would leave.
        whole: places of nodes that need all tokens for a later step.
    """
    forced = {place.node for place in whole}
    shape = dim_keys(value)
    if shape is None or len(shape) != 3 or not isinstance(shape[TOKEN_AXIS], int):
        return Refused(f"the number of tokens of {value.name} is not known")
    flow = TokenFlow(value, int(str(shape[TOKEN_AXIS])))
    flow.carry(value, TokenAxis(TOKEN_AXIS))
    flow.batch[value] = 0
    opset = graph.opset_imports.get("", 1)
    for node in graph:
        if not any(v is not None and v in flow.axes for v in node.inputs):
            continue
        mark = flow.mark()
        refused = LATER if node in forced else _step(flow, node, opset)
        if refused is not None:
            flow.undo(node, mark)
            if not note_reads(flow, node, refused):
                return refused
        for result in node.outputs:
            if result in flow.axes and (refused := note_uses(flow, result, graph)) is not None:
                return refused
    return flow


def _step(flow: TokenFlow, node: ir.Node, opset: int) -> Refused | None:
    for handler in HANDLERS:
        verdict = handler(flow, node, opset)
        if isinstance(verdict, Refused):
            return verdict
        if verdict:
            return None
    return general_step(flow, node, opset)


def _sum_of_tokens(node: ir.Node) -> ir.Value | None:
    """The result of a sum of two activations of one shape (batch, tokens, channels)."""
    if not is_op(node, "Add"):
        return None
    shapes = [dim_keys(v) for v in (*node.inputs, *node.outputs)]
    if any(v is None or v.const_value is not None for v in node.inputs) or shapes[0] is None or len(set(shapes)) != 1:
        return None
    shape: Sequence[int | str | None] = shapes[0]
    tokens = shape[TOKEN_AXIS] if len(shape) == 3 else None
    return node.outputs[0] if isinstance(tokens, int) and tokens >= LEAST_TOKENS else None
