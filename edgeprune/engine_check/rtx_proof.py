"""The proof by TensorRT for RTX, where no device is attached: the graph can be built, whatever its speed."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgeprune.backends import tensorrt_rtx
from edgeprune.errors import BackendError
from edgeprune.support import Progress


def rtx_proof(dense: ir.Model, model: ir.Model, shapes: Mapping[str, tuple[int, ...]], progress: Progress) -> list[str]:
    """Notes from building a lowered model with TensorRT for RTX; none if it is not installed.

    Args:
        dense: the original, in canonical form.
        model: the lowered model.
        shapes: input name -> shape, for inputs with an open size.
        progress: shows the progress.

    Raises:
        BackendError: it builds the original, but not the lowered model.
    """
    if not tensorrt_rtx.is_installed():
        return []
    if any(node.domain not in ("", "ai.onnx") for node in model.graph):
        return ["TensorRT for RTX has no plugins, so what surgery added could not be built here"]
    with progress.step("building with TensorRT for RTX"):
        try:
            engine = tensorrt_rtx.build(model, shapes=shapes)
        except BackendError as error:
            refused = str(error)
            try:
                tensorrt_rtx.build(dense, shapes=shapes)
            except BackendError:
                return [f"TensorRT for RTX cannot build the original either, so this proves nothing: {refused}"]
            raise BackendError(f"the original can be built, but not the lowered model: {refused}") from error
    return [
        f"TensorRT for RTX {engine.version} built the lowered graph here ({engine.layers} layers): that "
        f"{tensorrt_rtx.PROOF}"
    ]
