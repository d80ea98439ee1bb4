"""Which nodes may run in INT8: those that the runtime has a form for, and that compute activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from edgeprune.graph import Refused, opset_allows_int8, value_roles
from edgeprune.passes.placement.operands import operands


def eligible_nodes(model: ir.Model, possible: Callable[[ir.Node], bool | Refused]) -> dict[str, bool | Refused]:
    """For every node of the main graph, whether it may run in INT8, or why not.

    Args:
        model: its opset decides whether anything may.
        possible: whether the runtime has an INT8 form of a node.
    """
    if not (allowed := opset_allows_int8(model)):
        return {str(node.name): allowed for node in model.graph}
    roles = value_roles(model.graph)
    return {str(node.name): possible(node) and _activations(node, roles) for node in model.graph}


def _activations(node: ir.Node, roles: Mapping[ir.Value, str]) -> bool | Refused:
    """Whether a node works on activations; a layer with weights may compute something else from them, in float."""
    written = roles.get(node.outputs[0])
    if written is not None and not operands(node).weights:
        return Refused(f"it computes {written}, which is no activation")
    return True
