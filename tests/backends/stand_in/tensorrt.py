"""A stand-in for the module tensorrt on a device, not TensorRT: it runs the engines of the fake trtexec.

Its memory is this process's own. Loading the CUDA runtime gives this module's instead.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import stand_in_engine

__version__ = "10.3.0"
_real_cdll = ctypes.CDLL
_blocks: dict[int, Any] = {}
_KINDS = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(bool)": "BOOL", "tensor(uint8)": "UINT8"}
_TYPES = {"FLOAT": "float32", "HALF": "float16", "BOOL": "bool", "UINT8": "uint8", "INT64": "int64", "INT32": "int32"}


class _Cudart:
    """The functions of libcudart that a run calls, on the memory of this process."""

    def __getattr__(self, name: str) -> Any:
        work = {"cudaMalloc": self._allocate, "cudaMemcpy": self._copy, "cudaFree": self._free}
        return work.get(name, lambda *arguments: 0)

    def _allocate(self, address: Any, size: Any) -> int:
        block = ctypes.create_string_buffer(size.value)
        _blocks[ctypes.addressof(block)] = block
        address._obj.value = ctypes.addressof(block)
        return 0

    def _copy(self, target: Any, source: Any, size: Any, kind: Any) -> int:
        ctypes.memmove(target, source, size.value)
        return 0

    def _free(self, address: Any) -> int:
        return 0 if _blocks.pop(address.value, None) else 1


def _load(name: Any, *args: Any, **options: Any) -> Any:
    return _Cudart() if "cudart" in str(name) else _real_cdll(name, *args, **options)


ctypes.CDLL = _load  # type: ignore[assignment, misc]


class Logger:
    ERROR = 1

    def __init__(self, severity: int) -> None: ...


class TensorIOMode:
    INPUT, OUTPUT = "INPUT", "OUTPUT"


class Runtime:
    def __init__(self, logger: Logger) -> None: ...

    def deserialize_cuda_engine(self, plan: bytes) -> Engine:
        return Engine(stand_in_engine.session(plan))


class Engine:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.ports = {p.name: p for p in (*session.get_outputs(), *session.get_inputs())}
        self.num_io_tensors = len(self.ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self.ports)[index]

    def get_tensor_mode(self, name: str) -> str:
        return TensorIOMode.INPUT if name in [p.name for p in self.session.get_inputs()] else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        kind = self.ports[name].type
        return f"DataType.{_KINDS.get(kind, kind[7:-1].upper())}"

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        stated = self.engine.ports[name].shape
        self.shapes[name] = tuple(shape)
        return len(stated) == len(shape) and all(
            a == b or not isinstance(a, int) for a, b in zip(stated, shape, strict=True)
        )

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        zeros = {n: np.zeros(s, self._type(n)) for n, s in self.shapes.items()}
        found = dict(
            zip([p.name for p in self.engine.session.get_outputs()], self.engine.session.run(None, zeros), strict=True)
        )
        return tuple(found[name].shape)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        feed = {}
        for name, shape in self.shapes.items():
            array = np.zeros(shape, self._type(name))
            ctypes.memmove(array.ctypes.data, self.addresses[name], array.nbytes)
            feed[name] = array
        names = [port.name for port in self.engine.session.get_outputs()]
        for name, value in zip(names, self.engine.session.run(None, feed), strict=True):
            value = np.ascontiguousarray(value)
            ctypes.memmove(self.addresses[name], value.ctypes.data, value.nbytes)
        return True

    def _type(self, name: str) -> str:
        return _TYPES[self.engine.get_tensor_dtype(name).rpartition(".")[2]]
