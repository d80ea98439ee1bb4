"""TensorRT for RTX: a TensorRT builder that needs no GPU.

It parses with TensorRT's ONNX parser and compiles ahead of time, strongly typed, as TensorRT 11 does. So a build proves
that TensorRT accepts the graph. It says nothing about the latency on a Jetson.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.backends.engine_builder import BuildOptions, Engine, build_engine
from edgeprune.backends.trtexec import typing_of
from edgeprune.errors import BackendError
from edgeprune.hosts import call_in_child

PROOF = "proves the graph, not the speed"

DEFAULT_CAPABILITY = "SM86"
"""Ampere, the compute capability of this builder that is nearest to Orin's sm_87."""


def is_installed() -> bool:
    """Whether the builder is installed, without loading it."""
    return importlib.util.find_spec("tensorrt_rtx") is not None


def build(
    model: ir.Model,
    *,
    capability: str = DEFAULT_CAPABILITY,
    shapes: Mapping[str, Sequence[int]] | None = None,
    timeout_s: float = 1800.0,
) -> Engine:
    """Build a lowered model for a compute capability, on the CPU.

    Raises:
        BackendError: it is not installed, does not accept the model, crashes, or takes longer than ``timeout_s``.
    """
    if not is_installed():
        raise BackendError("TensorRT for RTX is not installed; pip install 'edgeprune[rtx]'")
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        graphs.save(model, Path(folder) / "model.onnx")
        request = {
            "capability": capability,
            "sparse": typing_of(model).sparse,
            "shapes": {k: list(v) for k, v in (shapes or {}).items()},
        }
        try:
            done = call_in_child(__name__, "build_in_folder", folder, json.dumps(request), timeout_s=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BackendError(f"TensorRT for RTX did not end within {timeout_s:.0f} s") from error
        answer = Path(folder) / "answer.json"
        if not answer.is_file():
            raise BackendError(f"TensorRT for RTX crashed ({done.how()}): {done.last_line()}")
        facts = json.loads(answer.read_text())
        if "error" in facts:
            raise BackendError(facts["error"].replace("TensorRT cannot", "TensorRT for RTX cannot"))
        return Engine((Path(folder) / "model.engine").read_bytes(), **facts)


def build_in_folder(path: str, request: str) -> None:
    """Build ``model.onnx`` of a folder, and write the engine and its facts beside it; called in the other process."""
    import tensorrt_rtx

    folder = Path(path)
    options = BuildOptions(**json.loads(request))
    try:
        engine = build_engine(tensorrt_rtx, folder / "model.onnx", options)
    except BackendError as error:
        facts: dict[str, object] = {"error": str(error)}
    else:
        (folder / "model.engine").write_bytes(engine.plan)
        facts = {"layers": engine.layers, "seconds": engine.seconds, "version": engine.version}
    (folder / "answer.json").write_text(json.dumps(facts))
