"""OpenVINO on this machine's CPU: the second runtime of target ``cpu``, from the ``[openvino]`` extra.

OpenVINO computes the float layers of a model in one type: float32, or bfloat16 where the processor has it, which is
then its own default. A model states the type in its metadata (`edgeprune.passes.openvino.float_precision`); one that
states nothing runs with the default. Layers between Q/DQ pairs run in INT8 in both. The model is compiled for latency:
one stream.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.ports import Port, random_feeds
from edgeprune.backends.results import LayerTime
from edgeprune.errors import BackendError, ModelError, UsageError
from edgeprune.passes.openvino import STATED_PRECISION
from edgeprune.support import this_cpu
from edgeprune.timing import OneThread

if TYPE_CHECKING:
    import onnx_ir as ir
    import openvino as ov

HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""Float precision -> OpenVINO's ``INFERENCE_PRECISION_HINT``."""

_CAPABILITIES = {"BF16": "bf16", "FP16": "fp16"}
_ONNX_TYPES = {"f32": "float", "f64": "double", "f16": "float16", "boolean": "bool", "string": "string"} | {
    f"{kind}{bits}": f"{name}{bits}" for kind, name in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)
}


def is_installed() -> bool:
    """Whether the ``[openvino]`` extra is installed; nothing is imported."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoRunner:
    """A model that OpenVINO has loaded; it is compiled when it first runs."""

    def __init__(self, model: ov.Model, settings: Mapping[str, Any], threads: int):
        self._model, self._settings, self._threads = model, dict(settings), threads
        self._compiled: ov.CompiledModel | None = None
        self._request: ov.InferRequest | None = None
        self.inputs = tuple(_port(p) for p in model.inputs)
        self.outputs = tuple(_port(p) for p in model.outputs)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, in the model's order, for one feed by input name.

        Raises:
            ModelError: OpenVINO does not compile the model.
            BackendError: OpenVINO refuses the feed or fails in a node; the text has its message.
        """
        if self._request is None:
            self._compiled = self._compile(self._model)
            self._request = self._compiled.create_infer_request()
        self._feed(self._request, feeds)
        return self._results(self._request)

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """A function that runs the model on this feed, for `edgeprune.timing.benchmark`; the model was run once.

        Open sizes are fixed to those of the feed, as a user of OpenVINO would do with ``reshape``.
        """
        model = self._model
        if model.is_dynamic():
            model = model.clone()
            try:
                model.reshape({name: list(value.shape) for name, value in feeds.items()})
            except RuntimeError as error:
                raise BackendError(f"OpenVINO could not fix the sizes of the model: {reason(error)}") from error
        self._compiled = self._compile(model)
        self._request = self._compiled.create_infer_request()
        self._feed(self._request, feeds)
        self._results(self._request)
        run = self._request.infer
        return OneThread(run) if self._threads == 1 else run

    def kernels(self) -> list[LayerTime]:
        """The nodes of the execution graph, in order, with the mean time of the bound model's runs.

        Times are 0 unless the model was loaded with ``trace``. The precisions are those that it computes and writes in.
        """
        if self._compiled is None or self._request is None:
            return []
        time_us: dict[str, float] = {}
        if self._settings.get("PERF_COUNT"):
            for entry in self._request.profiling_info:
                time_us[entry.node_name] = entry.real_time.total_seconds() * 1e6
        found = []
        for node in self._compiled.get_runtime_model().get_ordered_ops():
            info = {key: str(value.value) for key, value in node.get_rt_info().items()}
            kind = info.get("layerType", "")
            if kind in ("Const", "Input", "Output"):
                continue
            name = str(node.get_friendly_name())
            types = (info.get("runtimePrecision", ""), info.get("outputPrecisions", ""))
            nodes = tuple(n for n in info.get("originalLayersNames", "").split(",") if n)
            found.append(LayerTime(name, time_us.get(name, 0.0), kind, types, nodes))
        return found

    def random_feeds(self, seed: int = 0, shapes: Mapping[str, Sequence[int]] | None = None) -> dict[str, NDArray[Any]]:
        """A feed for measurements; see `edgeprune.backends.ports.random_feeds`."""
        return random_feeds(self.inputs, seed, shapes)

    def _compile(self, model: ov.Model) -> ov.CompiledModel:
        try:
            return _core().compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO does not accept the model: {reason(error)}") from error

    def _feed(self, request: ov.InferRequest, feeds: Mapping[str, NDArray[Any]]) -> None:
        import openvino as ov

        names = {port.name for port in self.inputs}
        if wrong := sorted(set(feeds) ^ names):
            problem = f"input {wrong[0]!r} is not given" if wrong[0] in names else f"it has no input {wrong[0]!r}"
            raise BackendError(f"OpenVINO could not run the model: {problem}")
        try:
            for name, value in feeds.items():
                request.set_tensor(name, ov.Tensor(np.array(value, order="C")))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO could not run the model: {reason(error)}") from error

    def _results(self, request: ov.InferRequest) -> list[NDArray[Any]]:
        try:
            request.infer()
        except RuntimeError as error:
            raise BackendError(f"OpenVINO could not run the model: {reason(error)}") from error
        return [np.array(tensor.data) for tensor in request.output_tensors]


class OpenVino:
    """OpenVINO on this machine's CPU with a fixed number of threads.

    Raises:
        BackendError: it is not installed.
    """

    name = "openvino"

    def __init__(self, threads: int = 1):
        if threads < 1:
            raise UsageError(f"the number of threads must be at least 1, not {threads}")
        if not is_installed():
            raise BackendError("OpenVINO is not installed: pip install 'edgeprune[openvino]'")
        self.threads = threads

    @property
    def version(self) -> str:
        """Version of OpenVINO, without its build number."""
        import openvino as ov

        return str(ov.__version__).partition("-")[0]

    @property
    def device(self) -> str:
        """The processor in words: name, cores and the extensions that select kernels."""
        return str(this_cpu())

    @property
    def float_precisions(self) -> tuple[str, ...]:
        """Types of float layers that this processor has instructions for, fp32 first."""
        known = _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("fp32", *(name for capability, name in _CAPABILITIES.items() if capability in known))

    def load(self, model: ir.Model | str | os.PathLike[str] | bytes, *, trace: bool = False) -> OpenVinoRunner:
        """Load a model from memory, from a file (ONNX, or OpenVINO's XML), or from a serialized ONNX model.

        Args:
            model: the model to run.
            trace: count the time of every kernel; see `OpenVinoRunner.kernels`.

        Raises:
            ModelError: OpenVINO does not read the model; the text has its message.
        """
        read = read_model(model)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": trace,
        }
        if stated := stated_precision(read):
            settings["INFERENCE_PRECISION_HINT"] = HINTS[stated]
        return OpenVinoRunner(read, settings, self.threads)


def read_model(model: ir.Model | str | os.PathLike[str] | bytes) -> ov.Model:
    """A model as OpenVINO reads it.

    Raises:
        UsageError: there is no such file.
        ModelError: OpenVINO does not read it; the text has its message.
    """
    if isinstance(model, (str, os.PathLike)) and not Path(model).is_file():
        raise UsageError(f"there is no file {os.fspath(model)!r}")
    try:
        if isinstance(model, bytes):
            return _core().read_model(model)
        if isinstance(model, (str, os.PathLike)):
            if Path(model).suffix not in (".onnx", ".xml"):
                raise ModelError(f"{os.fspath(model)!r} is neither an .onnx file nor OpenVINO's .xml")
            return _core().read_model(os.fspath(model))
        from edgeprune.graph import to_bytes

        return _core().read_model(to_bytes(model))
    except RuntimeError as error:
        raise ModelError(f"OpenVINO does not accept the model: {reason(error)}") from error


def save_xml(onnx_file: Path, xml_file: Path, precision: str) -> None:
    """Write an ONNX model in OpenVINO's own form, an ``.xml`` with its weights beside it, and state its float type.

    Weights in INT8 stay in INT8, and the others in their own type.
    """
    import openvino as ov

    read = read_model(onnx_file)
    read.set_rt_info(precision, [STATED_PRECISION])
    ov.save_model(read, xml_file, compress_to_fp16=False)


def stated_precision(read: ov.Model) -> str | None:
    """The type of float layers that a model states; None leaves it to OpenVINO.

    OpenVINO keeps the metadata of an ONNX model under ``framework``.
    """
    for path in ([STATED_PRECISION], ["framework", STATED_PRECISION]):
        if read.has_rt_info(path) and (stated := str(read.get_rt_info(path).value)) in HINTS:
            return stated
    return None


def reason(error: BaseException) -> str:
    """The cause in OpenVINO's message, as one line, without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line.removeprefix("-- ") for line in lines if line.startswith("-- ")] or lines
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "at "))]
    failed = [line for line in lines if line.startswith("Check '")]
    return (said or failed or [type(error).__name__])[0].rstrip(".:")


@functools.cache
def _core() -> ov.Core:
    import openvino as ov

    return ov.Core()


def _port(port: ov.Output) -> Port:
    kind = str(port.get_element_type().get_type_name())
    shape = tuple(d.get_length() if d.is_static else None for d in port.get_partial_shape())
    return Port(port.get_any_name(), f"tensor({_ONNX_TYPES.get(kind, kind)})", shape)
