"""Send a model to the machine where it is built or run."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.hosts import Workspace


def upload(space: Workspace, folder: str, model: ir.Model) -> None:
    """Write a model to ``model.onnx`` in a new folder of a workspace, its external data beside it, by one command."""
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as local:
        graphs.save(model, Path(local) / "model.onnx")
        space.put_all(Path(local), folder)
