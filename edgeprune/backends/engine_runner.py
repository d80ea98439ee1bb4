"""Run a TensorRT engine on given inputs, on the device to which this file is copied.

It only needs Python 3.8, NumPy, TensorRT's Python module (JetPack has it) and the CUDA runtime. Usage: python3
engine_runner.py ENGINE FEEDS.npz OUTPUTS.npz

FEEDS: ``names``, the inputs; and for feed f and input i an array ``f.i``. OUTPUTS: likewise. Every feed may have other
sizes, within those that the engine was built for. A failure ends the program with the reason on the last line.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from typing import Any

LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
TO_DEVICE, TO_HOST = 1, 2
TYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
}


def main(engine_file: str, feeds_file: str, outputs_file: str) -> None:
    """Load the engine, run every feed, and write the outputs."""
    import numpy
    import tensorrt

    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    if hasattr(tensorrt, "init_libnvinfer_plugins"):
        tensorrt.init_libnvinfer_plugins(logger, "")
    with open(engine_file, "rb") as file:
        engine = tensorrt.Runtime(logger).deserialize_cuda_engine(file.read())
    if engine is None:
        sys.exit("TensorRT cannot load the engine: it is of another version or for another GPU")
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    inputs = [n for n in names if engine.get_tensor_mode(n) == tensorrt.TensorIOMode.INPUT]
    outputs = [n for n in names if n not in inputs]
    cuda = Cuda()
    found: dict[str, Any] = {"names": numpy.array(outputs)}
    with numpy.load(feeds_file) as feeds:
        given = [str(name) for name in feeds["names"]]
        if missing := [name for name in inputs if name not in given]:
            sys.exit(f"the engine has an input {missing[0]!r}, which the model has not")
        context = engine.create_execution_context()
        for number in range(sum(key.endswith(".0") for key in feeds.files)):
            feed = {name: feeds[f"{number}.{given.index(name)}"] for name in inputs}
            for position, array in enumerate(run(engine, context, cuda, feed, outputs)):
                found[f"{number}.{position}"] = array
    with open(outputs_file + ".part", "wb") as file:
        numpy.savez(file, **found)
    os.replace(outputs_file + ".part", outputs_file)


def run(engine: Any, context: Any, cuda: Cuda, feed: dict[str, Any], outputs: list[str]) -> list[Any]:
    """The outputs for one feed."""
    import numpy

    held, results = [], []
    try:
        for name, array in feed.items():
            typed = numpy.ascontiguousarray(array, numpy_type(engine, name))
            if array.dtype.kind in "iu" and (typed != array).any():
                raise ValueError(f"input {name!r} has values that its type in the engine, {typed.dtype}, cannot hold")
            if not context.set_input_shape(name, typed.shape):
                sys.exit(f"the engine was built for other sizes of input {name!r} than {typed.shape}")
            held.append(cuda.allocate(typed.nbytes))
            cuda.copy(held[-1], typed.ctypes.data, typed.nbytes, TO_DEVICE)
            context.set_tensor_address(name, held[-1])
        for name in outputs:
            shape = tuple(context.get_tensor_shape(name))
            if any(size < 0 for size in shape):
                sys.exit(f"the size of output {name!r} depends on the data")
            result = numpy.zeros(shape, numpy_type(engine, name))
            held.append(cuda.allocate(result.nbytes))
            context.set_tensor_address(name, held[-1])
            results.append((held[-1], result))
        if not context.execute_async_v3(cuda.stream):
            sys.exit("TensorRT could not run the engine")
        cuda.wait()
        for address, result in results:
            cuda.copy(result.ctypes.data, address, result.nbytes, TO_HOST)
        return [result for _, result in results]
    finally:
        for address in held:
            cuda.free(address)


def numpy_type(engine: Any, name: str) -> str:
    """The type of a tensor, by name: ``tensorrt.nptype`` of old versions fails with new ones of NumPy.

    Raises:
        ValueError: NumPy does not have the type.
    """
    kind = str(engine.get_tensor_dtype(name)).rpartition(".")[2].upper()
    if kind not in TYPES:
        raise ValueError(f"tensor {name!r} has type {kind}, which NumPy does not have")
    return TYPES[kind]


class Cuda:
    """The functions of the CUDA runtime that a run needs, and one stream."""

    def __init__(self) -> None:
        self._library = load()
        handle = ctypes.c_void_p()
        self._check("cudaStreamCreate", ctypes.byref(handle))
        self.stream = handle.value or 0

    def allocate(self, size: int) -> int:
        """The address of new memory on the device."""
        address = ctypes.c_void_p()
        self._check("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(1, size)))
        return address.value or 0

    def copy(self, target: int, source: int, size: int, kind: int) -> None:
        """Copy bytes to the device or back."""
        self._check(
            "cudaMemcpy", ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(size), ctypes.c_int(kind)
        )

    def wait(self) -> None:
        """Wait until all work of the stream is done."""
        self._check("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def free(self, address: int) -> None:
        """Give memory back."""
        self._library.cudaFree(ctypes.c_void_p(address))

    def _check(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            sys.exit(f"CUDA: {function} failed with code {code}")


def load() -> Any:
    """The CUDA runtime."""
    for name in (*LIBRARIES, ctypes.util.find_library("cudart")):
        if name:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    return sys.exit("the device has no CUDA runtime (libcudart)")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as reason:
        sys.exit(str(reason))
