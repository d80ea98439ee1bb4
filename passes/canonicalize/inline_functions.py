"""Replace every call of a model-local function by the function's body.

The nodes and values of a body are named after the call and themselves, ``blocks.1/Conv``, so that people find them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from edgeprune.errors import PassError
from edgeprune.graph import Names
from edgeprune.support import first_sentence

_CALL, _OWN = "edgeprune.call", "edgeprune.own"
"""Metadata, for as long as functions are inlined: the name of the call, and of the node or value in the function."""


def inline_functions(model: ir.Model) -> bool:
    """Inline all model-local functions, in place; returns whether there were any.

    Raises:
        PassError: if functions call each other in a cycle, or need another opset than the model's.
    """
    if not model.functions:
        return False
    try:
        while leaves := _leaves(model):
            _mark(model, leaves)
            InlinePass(lambda function: function.identifier() in leaves)(model)
            for key in leaves:
                model.functions.pop(key, None)
            _rename(model)
        if model.functions:  # a cycle: the pass names it
            InlinePass()(model)
    except (ir.passes.PassError, ir.passes.InvariantError, ValueError) as error:
        raise PassError(f"cannot inline the model's functions: {first_sentence(error)}") from error
    model.functions.clear()
    return True


def _leaves(model: ir.Model) -> set[ir.OperatorIdentifier]:
    """The functions that call no other."""
    return {
        key
        for key, function in model.functions.items()
        if all(node.op_identifier() not in model.functions for node in function.all_nodes())
    }


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _mark(model: ir.Model, leaves: set[ir.OperatorIdentifier]) -> None:
    """Write down the names of calls, and of what is in the functions."""
    for node in _nodes(model):
        if node.op_identifier() in leaves:
            node.metadata_props[_CALL] = node.name or node.op_type
    for key in leaves:
        for node in model.functions[key].all_nodes():
            node.metadata_props[_OWN] = node.name or node.op_type
            for value in node.outputs:
                if value.name:
                    value.metadata_props[_OWN] = value.name


def _rename(model: ir.Model) -> None:
    names = Names(model)
    for node in _nodes(model):
        call, own = node.metadata_props.pop(_CALL, None), node.metadata_props.pop(_OWN, None)
        if call is not None and own is not None:
            node.name = f"{call}/{own}"
        for value in node.outputs:
            own = value.metadata_props.pop(_OWN, None)
            # The results of the call keep their names; another value has its own, made unique by a number.
            is_own = own is not None and re.fullmatch(rf"{re.escape(own)}(_\d+)?", value.name or "")
            if call is not None and is_own and not value.is_graph_output():
                value.name = names.fresh(f"{call}/{own}")
