"""Devices on which models are built and measured: their interface, and how ``--device`` selects one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.boards import Boards
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

    def facts(self) -> dict[str, str]:
        """The machine, its software and its settings: what must be the same for two measurements to be compared."""

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        seconds: float = ...,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        power_s: float = ...,
        builds: int = ...,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Build every model there so often and measure all engines in turns; name -> result."""

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
    spec: str | Sequence[str],
    runtime: str,
    *,
    threads: int = 1,
    ssh_config: Path | None = None,
    cuda_graph: bool = False,
    timing_cache: Path | None = None,
) -> Device:
    """The device that ``--device`` names; several boards are one device, measured at the same time.

    Args:
        spec: ``local``, or ``ssh://user@host[:port]``; or several of them.
        runtime: the runtime of the target: ``tensorrt`` or ``onnxruntime``.
        threads: threads of an inference, for onnxruntime.
        ssh_config: an OpenSSH client configuration instead of the user's own.
        cuda_graph: whether measurements replay the kernels as one CUDA graph; ``trtexec`` alone does.
        timing_cache: file of a timing cache by which ``trtexec`` builds all engines; it is made if there is none.

    Raises:
        UsageError: The text is not the address of a device (it is first contacted when it is used), a device is named
            twice, or the runtime replays no CUDA graphs or has no timing cache.
        BackendError: This machine has TensorRT's Python module, but no GPU for it.
    """
    if not isinstance(spec, str):
        if len(set(spec)) < len(spec):
            raise UsageError(f"--device {next(s for s in spec if spec.count(s) > 1)} is given twice")
        if timing_cache is not None and len(spec) > 1 and not timing_cache.exists():
            raise UsageError(f"--timing-cache {str(timing_cache)!r} is not there: make it with one --device first")
        boards: list[Any] = [
            open_device(
                one,
                runtime,
                threads=threads,
                ssh_config=ssh_config,
                cuda_graph=cuda_graph,
                timing_cache=timing_cache,
            )
            for one in spec
        ]
        return boards[0] if len(boards) == 1 else Boards(boards)
    host: Host = LocalHost() if spec == LOCAL else SshHost(spec, config=ssh_config)
    if runtime == "onnxruntime" and cuda_graph:
        raise UsageError("--cuda-graph is for targets with TensorRT, not for cpu")
    if runtime == "onnxruntime" and timing_cache is not None:
        raise UsageError("--timing-cache is for targets with TensorRT, not for cpu")
    if runtime == "onnxruntime":
        from edgeprune.backends.onnxruntime_device import OnnxRuntimeDevice

        # On this machine, the interpreter that runs edgeprune has onnxruntime; python3 may be another.
        return OnnxRuntimeDevice(host, threads=threads, python=sys.executable if spec == LOCAL else "python3")
    from edgeprune.backends.trtexec_device import Trtexec, is_installed

    if spec == LOCAL and not is_installed() and importlib.util.find_spec("tensorrt") is not None:
        from edgeprune.backends.tensorrt_device import TensorRtDevice

        if cuda_graph:
            raise UsageError("--cuda-graph needs trtexec: TensorRT's Python module measures without CUDA graphs")
        if timing_cache is not None:
            raise UsageError("--timing-cache needs trtexec: TensorRT's Python module is used without one here")
        return TensorRtDevice()
    return Trtexec(host, cuda_graph=cuda_graph, timing_cache=timing_cache)
