"""TensorRT for RTX: a real TensorRT builder that needs no GPU.

It parses with TensorRT's own ONNX parser and compiles ahead of time, strongly typed, as TensorRT 11 does. So a build
proves that the graph is one that TensorRT takes. It says nothing about the speed on any Jetson.

The builder runs in a process of its own: native code that fails must not take the compiler down with it.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.backends.engine_builder import BuildOptions, Engine, build_engine
from edgeprune.backends.trtexec import typing_of
from edgeprune.errors import BackendError

PROOF = "proves the graph, not the speed"

DEFAULT_CAPABILITY = "SM86"
"""Ampere with the instructions nearest to Orin's sm_87 among what this builder offers."""


def is_installed() -> bool:
    """Whether the builder is there, without loading it."""
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
        BackendError: it is not installed, does not take the model, crashes, or outlasts ``timeout_s``.
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
        work = f"import sys, pathlib; from {__name__} import build_in_folder as build"
        work = f"{work}; build(pathlib.Path(sys.argv[1]), sys.argv[2])"
        command = [sys.executable, "-c", work, folder, json.dumps(request)]
        try:
            done = subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BackendError(f"TensorRT for RTX did not end within {timeout_s:.0f} s") from error
        answer = Path(folder) / "answer.json"
        if not answer.is_file():
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
            raise BackendError(f"TensorRT for RTX crashed ({how}): {lines[-1] if lines else 'it printed nothing'}")
        facts = json.loads(answer.read_text())
        if "error" in facts:
            raise BackendError(facts["error"].replace("TensorRT cannot", "TensorRT for RTX cannot"))
        return Engine((Path(folder) / "model.engine").read_bytes(), **facts)


def build_in_folder(folder: Path, request: str) -> None:
    """Build ``model.onnx`` of the folder, and write the engine and what there is to say of it beside it."""
    import tensorrt_rtx

    wanted = json.loads(request)
    options = BuildOptions(sparse=wanted["sparse"], capability=wanted["capability"], shapes=wanted["shapes"])
    try:
        engine = build_engine(tensorrt_rtx, folder / "model.onnx", options)
    except BackendError as error:
        facts: dict[str, object] = {"error": str(error)}
    else:
        (folder / "model.engine").write_bytes(engine.plan)
        facts = {"layers": engine.layers, "seconds": engine.seconds, "version": engine.version}
    (folder / "answer.json").write_text(json.dumps(facts))
