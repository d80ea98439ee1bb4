"""Replace every call of a model-local function by the function's body."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from edgeprune.errors import PassError
from edgeprune.support import first_sentence


def inline_functions(model: ir.Model) -> bool:
    """Inline all model-local functions, in place; returns whether there were any.

    Raises:
        PassError: if functions call each other in a cycle, or need another opset than the model's.
    """
    if not model.functions:
        return False
    try:
        InlinePass()(model)
    except (ir.passes.PassError, ir.passes.InvariantError, ValueError) as error:
        raise PassError(f"cannot inline the model's functions: {first_sentence(error)}") from error
    model.functions.clear()
    return True
