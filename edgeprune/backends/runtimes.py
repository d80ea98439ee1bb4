"""The runtimes that run models on this machine's CPU, by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from edgeprune.backends.block_trace import Tracer, trace
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.backends.openvino import OpenVino
from edgeprune.backends.openvino_trace import trace_openvino
from edgeprune.backends.ports import Port

if TYPE_CHECKING:
    import onnx_ir as ir


class LoadedModel(Protocol):
    """A model that a runtime has loaded."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, in the model's order, for one feed by input name."""

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """A function that runs the model on this feed, for `edgeprune.timing.benchmark`; the model was run once."""

    def random_feeds(self, seed: int = 0, shapes: Mapping[str, Sequence[int]] | None = None) -> dict[str, NDArray[Any]]:
        """A feed for measurements; see `edgeprune.backends.ports.random_feeds`."""


class CpuRuntime(Protocol):
    """A runtime on this machine's CPU with a fixed number of threads."""

    name: str
    threads: int

    @property
    def version(self) -> str:
        """Version of the runtime."""

    @property
    def device(self) -> str:
        """The processor in words: name, cores and the extensions that select kernels."""

    def load(self, model: ir.Model | str | os.PathLike[str] | bytes) -> LoadedModel:
        """Load a model from memory, from a file, or from a serialized model.

        Raises:
            ModelError: the runtime does not accept the model; the text has its message.
        """


def open_runtime(name: str, threads: int = 1) -> CpuRuntime:
    """A runtime by name: ``onnxruntime`` or ``openvino``.

    Raises:
        BackendError: it is not installed.
    """
    return OpenVino(threads) if name == OpenVino.name else OnnxRuntime(threads)


def tracer_of(name: str, feeds: Mapping[str, NDArray[Any]], threads: int) -> Tracer:
    """Measures the blocks of models in a runtime, on one feed."""
    measure = trace_openvino if name == OpenVino.name else trace

    def traced(model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Any:
        return measure(model, block_of, feeds, threads, seconds)

    return traced
