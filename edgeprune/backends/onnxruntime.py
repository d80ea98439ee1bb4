"""The default backend: runs a model with onnxruntime on the CPU, as it is deployed there."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.ports import Port, random_feeds
from edgeprune.errors import BackendError, ModelError, UsageError
from edgeprune.support import available_cores, first_sentence, this_cpu
from edgeprune.timing import OneThread

if TYPE_CHECKING:
    import onnx_ir as ir
    import onnxruntime as ort

PROVIDER = "CPUExecutionProvider"

_SMALL_BYTES = 4096
"""Larger weights are passed in memory, beside the model."""


class Runner:
    """A model that onnxruntime has loaded.

    Attributes:
        note: what a user has to know of how it runs.
    """

    def __init__(self, session: ort.InferenceSession, threads: int, weights: Sequence[object] = ()):
        self._session = session
        self._weights = weights  # the session reads them in place, so they must stay alive
        self._threads = threads
        self.note = ""
        self.inputs = tuple(Port(i.name, i.type, tuple(i.shape)) for i in session.get_inputs())
        self.outputs = tuple(Port(o.name, o.type, tuple(o.shape)) for o in session.get_outputs())

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, in the model's order, for one feed by input name.

        Raises:
            BackendError: onnxruntime refuses the feed or fails in a node; the text has its message.
        """
        try:
            outputs: list[NDArray[Any]] = self._session.run(None, dict(feeds))
        except failures() as error:
            raise BackendError(f"onnxruntime could not run the model: {first_sentence(error)}") from error
        return outputs

    def bind(self, feeds: Mapping[str, NDArray[Any]]) -> Callable[[], object]:
        """A function that runs the model on this feed, for `edgeprune.timing.benchmark`; the model was run once."""
        self.run(feeds)
        fixed = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
        run = functools.partial(self._session.run, None, fixed)
        return OneThread(run) if self._threads == 1 else run

    def end_trace(self) -> Path:
        """Stop the trace of kernels; returns its JSON file."""
        return Path(self._session.end_profiling())

    def random_feeds(self, seed: int = 0, shapes: Mapping[str, Sequence[int]] | None = None) -> dict[str, NDArray[Any]]:
        """A feed for measurements; see `edgeprune.backends.ports.random_feeds`."""
        return random_feeds(self.inputs, seed, shapes)


class OnnxRuntime:
    """onnxruntime on this machine's CPU with a fixed number of threads.

    All graph optimizations are on. Where onnxruntime's own fusion makes an invalid node of a valid model (a QLinearAdd
    whose scale is a vector of one), the model runs without fusion, and the runner's note says so. With more threads
    than cores, waiting threads do not spin, since they would take a core that another thread needs. They also do not
    spin if ``spinning`` is off, for work that is not measured and should leave the other cores free. Without an
    ``arena`` memory goes back to the system after every run: a little slower, but large outputs are not held for the
    next run.
    """

    name = "onnxruntime"

    def __init__(self, threads: int = 1, *, spinning: bool = True, arena: bool = True):
        if threads < 1:
            raise UsageError(f"the number of threads must be at least 1, not {threads}")
        self.threads, self.arena = threads, arena
        self.spinning = spinning and threads <= available_cores()

    @property
    def version(self) -> str:
        """Version of onnxruntime."""
        import onnxruntime

        return str(onnxruntime.__version__)

    @property
    def device(self) -> str:
        """The processor in words: name, cores and the extensions that select kernels."""
        return str(this_cpu())

    def load(self, model: ir.Model | str | os.PathLike[str] | bytes, *, trace: Path | None = None) -> Runner:
        """Load a model from memory, from a file, or from a serialized model.

        Args:
            model: the model to run.
            trace: record the time of every kernel; the start of the file's name, see `Runner.end_trace`.

        Raises:
            ModelError: onnxruntime does not accept the model; the text has its message.
            BackendError: onnxruntime would not run it on the CPU.
        """
        import onnxruntime as ort

        try:
            return open_session(model, self._options(trace), self.threads)
        except failures() as error:
            reason = first_sentence(error)
        basic = self._options(trace)
        basic.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            runner = open_session(model, basic, self.threads)
        except failures():
            raise ModelError(f"onnxruntime does not accept the model: {reason}") from None
        runner.note = f"onnxruntime cannot fuse the nodes of the model and runs it without: {reason}"
        return runner

    def _options(self, trace: Path | None) -> ort.SessionOptions:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.enable_cpu_mem_arena = self.arena
        options.log_severity_level = 4  # errors are raised, so they need not be printed too
        if trace is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(trace)
        if not self.spinning:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


def open_session(model: ir.Model | str | os.PathLike[str] | bytes, options: ort.SessionOptions, threads: int) -> Runner:
    """Load a model with these options.

    Raises:
        BackendError: onnxruntime would not run it on the CPU.
        Exception: one of `failures`, if onnxruntime does not accept the model.
    """
    import onnxruntime as ort

    weights: dict[str, object] = {}
    if isinstance(model, bytes):
        source: str | bytes = model
    elif isinstance(model, (str, os.PathLike)):
        if not Path(model).is_file():
            raise UsageError(f"there is no file {os.fspath(model)!r}")
        source = os.fspath(model)
    else:
        from edgeprune.graph import to_bytes_and_weights

        source, arrays = to_bytes_and_weights(model, _SMALL_BYTES)
        # onnxruntime would copy an array that is not contiguous into its own memory, and then refuse to read it.
        own = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        weights = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in own.items()}
        options.add_external_initializers(list(weights), list(weights.values()))
    session = ort.InferenceSession(source, options, providers=[PROVIDER])
    if session.get_providers() != [PROVIDER]:
        raise BackendError(f"onnxruntime would run on {', '.join(session.get_providers())}, not on {PROVIDER}")
    return Runner(session, threads, list(weights.values()))


def failures() -> tuple[type[Exception], ...]:
    """Exceptions of onnxruntime: its own classes, which have no common base, and three built-in ones."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [c for c in vars(state).values() if isinstance(c, type) and issubclass(c, Exception)]
    return (*own, RuntimeError, ValueError, TypeError)
