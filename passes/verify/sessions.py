"""One run of a model in onnxruntime, as it is."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.errors import ModelError
from edgeprune.passes.verify.random_inputs import Feeds
from edgeprune.support import first_sentence

if TYPE_CHECKING:
    import onnxruntime


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    """An onnxruntime session that runs the model as it is, without graph optimization.

    Raises:
        ModelError: if onnxruntime does not accept the model.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    refusals = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.NotImplemented,
        state.NoSuchFile,
        state.RuntimeException,
    )
    try:
        if graphs.weight_bytes(model) <= graphs.EXTERNAL_DATA_BYTES:
            return ort.InferenceSession(graphs.to_bytes(model), options, providers=["CPUExecutionProvider"])
        # Map the weights once: no copy in another file, and no prepacked copy in memory.
        options.add_session_config_entry("session.disable_prepacking", "1")
        with contextlib.suppress(ModelError):
            data, weights = graphs.to_references(model)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
            return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            path = Path(folder) / "model.onnx"
            graphs.save(model, path)
            return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except refusals as error:
        raise ModelError(f"onnxruntime does not accept the model: {first_sentence(error)}") from error


def run(run_session: onnxruntime.InferenceSession, names: list[str], feeds: Feeds) -> list[Any]:
    """The outputs.

    Raises:
        ModelError: if the model cannot be run on these inputs; with the reason that onnxruntime gives.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        return list(run_session.run(names, feeds))
    except (
        state.Fail,
        state.InvalidArgument,
        state.RuntimeException,
        state.NotImplemented,
        ValueError,
        RuntimeError,
    ) as error:
        raise ModelError(f"onnxruntime cannot run the model: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """The last sentence of an error, without the place in onnxruntime's source."""
    text = " ".join(str(error).split())
    return text.split("Status Message:")[-1].split(") ")[-1].strip().rstrip(".")
