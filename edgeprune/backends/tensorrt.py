"""TensorRT's Python module on this machine's GPU: JetPack installs it, or ``pip install tensorrt``."""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.backends.cudart import Cuda
from edgeprune.backends.engine_builder import BuildOptions, Engine, build_engine
from edgeprune.backends.engine_runner import numpy_type
from edgeprune.backends.trtexec import typing_of
from edgeprune.errors import BackendError


class TensorRt:
    """Build engines and run them on this machine.

    Args:
        module: the module ``tensorrt``; imported by default.
        cuda: the CUDA runtime; found by default.
        cache: file for the timing cache, which later builds use.

    Raises:
        BackendError: TensorRT, the CUDA runtime or a GPU is missing.
    """

    name = "tensorrt"

    def __init__(self, module: ModuleType | None = None, cuda: Cuda | None = None, *, cache: Path | None = None):
        self._trt: Any = module or _import()
        self._cuda = cuda or Cuda()
        self._cache = cache

    @property
    def version(self) -> str:
        """Version of TensorRT."""
        return str(self._trt.__version__)

    def build(self, model: ir.Model, *, shapes: Mapping[str, Sequence[int]] | None = None) -> Engine:
        """Build a lowered model for the GPU of this machine.

        Raises:
            BackendError: TensorRT does not accept the model.
        """
        typing = typing_of(model)
        options = BuildOptions(sparse=typing.sparse, fp16=typing.fp16, int8=typing.int8, shapes=shapes or {})
        known = self._cache.read_bytes() if self._cache is not None and self._cache.is_file() else b""
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            graphs.save(model, Path(folder) / "model.onnx")
            engine = build_engine(self._trt, Path(folder) / "model.onnx", options, known)
        if self._cache is not None:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            self._cache.write_bytes(engine.timing_cache)
        return engine

    @contextmanager
    def runner(
        self, plan: bytes, *, shapes: Mapping[str, Sequence[int]] | None = None, seed: int = 0
    ) -> Iterator[Callable[[], object]]:
        """A function that runs the engine once on random inputs and waits for it, for `edgeprune.timing.benchmark`.

        Raises:
            BackendError: another version built the engine, or it is for another device, or a size is open, or NumPy
                lacks the type of an input or output.
        """
        trt, cuda = self._trt, self._cuda
        engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError("TensorRT cannot load the engine: it is of another version or for another GPU")
        context = engine.create_execution_context()
        random = np.random.default_rng(seed)
        with ExitStack() as held:
            stream = held.enter_context(cuda.stream())
            names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
            inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
            for name in [*inputs, *(name for name in names if name not in inputs)]:
                shape = tuple(context.get_tensor_shape(name))
                if name in inputs:
                    default = (1 if d == -1 and a == 0 else d for a, d in enumerate(shape))
                    shape = tuple((shapes or {}).get(name, default))
                    shown = "x".join(str(d) if d != -1 else "?" for d in shape)
                    if -1 in shape:
                        raise BackendError(f"input {name!r} ({shown}) has an open size: give --shape {name}=SIZES")
                    if not context.set_input_shape(name, shape):
                        raise BackendError(f"the engine was built for other sizes of input {name!r} than {shown}")
                dtype = _type(engine, name)
                address = held.enter_context(cuda.memory(math.prod(shape) * dtype.itemsize))
                if name in inputs and dtype.kind == "f":
                    cuda.upload(address, random.standard_normal(shape).astype(dtype).tobytes())
                context.set_tensor_address(name, address)

            def run() -> None:
                if not context.execute_async_v3(stream):
                    raise BackendError("TensorRT could not run the engine")
                cuda.wait(stream)

            run()
            yield run


def _type(engine: Any, name: str) -> np.dtype[Any]:
    try:
        return np.dtype(numpy_type(engine, name))
    except ValueError as error:
        raise BackendError(f"the engine cannot be run on random inputs: {error}") from error


def _import() -> ModuleType:
    try:
        module = importlib.import_module("tensorrt")
    except ImportError as error:
        raise BackendError(
            "TensorRT's Python module is not installed; on a Jetson it is part of JetPack, elsewhere run "
            "pip install 'edgeprune[tensorrt]'"
        ) from error
    version = str(getattr(module, "__version__", "0"))
    if [int(part) for part in version.split(".")[:2]] < [8, 5]:
        raise BackendError(f"TensorRT {version} is too old: named tensors need 8.5 or newer")
    return module
