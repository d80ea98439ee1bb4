"""Devices on which models are built and measured: their interface, and how ``--device`` selects one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.results import DeviceResult, EngineRuns
from edgeprune.errors import UsageError
from edgeprune.hosts import Host, LocalHost, SshHost

LOCAL = "local"


class Device(Protocol):
    """A runtime on a machine, such as `edgeprune.backends.trtexec_device.Trtexec`."""

    name: str
    host: Host

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        seconds: float = ...,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Build every model there and measure them in turns; name -> result."""


@runtime_checkable
class EngineDevice(Device, Protocol):
    """A device with TensorRT, which also says what an engine computes, and what energy it takes."""

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        seconds: float = ...,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        power_s: float = ...,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Build every model there and measure them in turns; name -> result."""

    def outputs(
        self,
        model: ir.Model,
        feeds: Sequence[Mapping[str, NDArray[Any]]],
        *,
        engine: bytes | None = ...,
        shapes: Mapping[str, tuple[int, ...]] | None = ...,
        progress: Callable[[str, float], None] | None = ...,
    ) -> EngineRuns:
        """What the model's engine computes; it is built there if it is not given."""


def open_device(
    spec: str, runtime: str, *, threads: int = 1, ssh_config: Path | None = None, cuda_graph: bool = False
) -> Device:
    """The device that ``--device`` names.

    Args:
        spec: ``local``, or ``ssh://user@host[:port]``.
        runtime: the runtime of the target: ``tensorrt`` or ``onnxruntime``.
        threads: threads of an inference, for onnxruntime.
        ssh_config: an OpenSSH client configuration instead of the user's own.
        cuda_graph: whether measurements replay the kernels as one CUDA graph; ``trtexec`` alone does.

    Raises:
        UsageError: The text is not the address of a device (it is first contacted when it is used), or the runtime
            replays no CUDA graphs.
        BackendError: This machine has TensorRT's Python module, but no GPU for it.
    """
    host: Host = LocalHost() if spec == LOCAL else SshHost(spec, config=ssh_config)
    if runtime == "onnxruntime" and cuda_graph:
        raise UsageError("--cuda-graph is for targets with TensorRT, not for cpu")
    if runtime == "onnxruntime":
        from edgeprune.backends.onnxruntime_device import OnnxRuntimeDevice

        # On this machine, the interpreter that runs edgeprune has onnxruntime; python3 may be another.
        return OnnxRuntimeDevice(host, threads=threads, python=sys.executable if spec == LOCAL else "python3")
    from edgeprune.backends.trtexec_device import Trtexec, is_installed

    if spec == LOCAL and not is_installed() and importlib.util.find_spec("tensorrt") is not None:
        from edgeprune.backends.tensorrt_device import TensorRtDevice

        if cuda_graph:
            raise UsageError("--cuda-graph needs trtexec: TensorRT's Python module measures without CUDA graphs")
        return TensorRtDevice()
    return Trtexec(host, cuda_graph=cuda_graph)
