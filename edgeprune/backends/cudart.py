"""The functions of the CUDA runtime that an engine needs, through ctypes: every JetPack has the library."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager

from edgeprune.errors import BackendError

_NAMES = (
    "libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "cudart64_13.dll",
    "cudart64_12.dll",
)


class Cuda:
    """The CUDA runtime of this machine.

    Raises:
        BackendError: the CUDA runtime or a GPU is missing.
    """

    def __init__(self) -> None:
        self._library = _load()
        count = ctypes.c_int(0)
        self._check("cudaGetDeviceCount", ctypes.byref(count))
        if count.value < 1:
            raise BackendError("this machine has no GPU that CUDA can use")

    @contextmanager
    def memory(self, size_bytes: int) -> Iterator[int]:
        """The address of a block of zeroed GPU memory."""
        address = ctypes.c_void_p()
        self._check("cudaMalloc", ctypes.byref(address), ctypes.c_size_t(max(1, size_bytes)))
        try:
            self._check("cudaMemset", address, ctypes.c_int(0), ctypes.c_size_t(max(1, size_bytes)))
            yield address.value or 0
        finally:
            self._library.cudaFree(address)

    @contextmanager
    def stream(self) -> Iterator[int]:
        """A stream for engines."""
        handle = ctypes.c_void_p()
        self._check("cudaStreamCreate", ctypes.byref(handle))
        try:
            yield handle.value or 0
        finally:
            self._library.cudaStreamDestroy(handle)

    def upload(self, address: int, data: bytes) -> None:
        """Copy bytes to GPU memory."""
        self._check("cudaMemcpy", ctypes.c_void_p(address), data, ctypes.c_size_t(len(data)), ctypes.c_int(1))

    def wait(self, stream: int) -> None:
        """Wait until all work of the stream is done."""
        self._check("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def _check(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(*arguments)
        if code:
            self._library.cudaGetErrorString.restype = ctypes.c_char_p
            text = self._library.cudaGetErrorString(code)
            raise BackendError(f"CUDA: {function}: {text.decode() if text else code}")


def _load() -> ctypes.CDLL:
    for name in (*_NAMES, ctypes.util.find_library("cudart")):
        if name:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    raise BackendError("this machine has no CUDA runtime (libcudart)")
