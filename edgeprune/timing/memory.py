"""Memory of an engine on its device: what TensorRT says that it allocates, and how much less memory is available."""

from __future__ import annotations

import re
from dataclasses import dataclass

MB = 1e6
_MIB = 2**20 / MB

_BUILT = re.compile(r"Total (Weights|Activation) Memory: (\d+)")
_LOADED = re.compile(r"in IExecutionContext creation: CPU \S+ GPU \S+ now: CPU \d+, GPU (\d+) \(MiB\)")
_AVAILABLE = re.compile(r"MemAvailable:\s+(\d+) kB")


@dataclass(frozen=True)
class Memory:
    """The memory that an engine takes on its device, megabytes of 1e6 bytes.

    Attributes:
        mb: for weights and activations together, as TensorRT says: to the byte, or in whole MiB.
        weights_mb, activations_mb: both parts; None if TensorRT's version does not tell them apart.
        process_mb: how much less memory was available on the device while the engine ran, with CUDA's own memory and
            whatever else ran there; None if the device does not say.
        source: of ``mb``: ``build`` or ``loading``, the log of TensorRT.
    """

    mb: float
    weights_mb: float | None
    activations_mb: float | None
    process_mb: float | None
    source: str


def memory_of(built: str, loaded: str, available: str) -> Memory | None:
    """The memory by the logs of a build and of a run, and by samples of ``/proc/meminfo``; None if no log has it.

    Args:
        built: what ``trtexec`` printed when it built the engine.
        loaded: what it printed when it ran the engine.
        available: lines with ``MemAvailable:``, the first one from before the engine ran.
    """
    parts = {name: int(number) / MB for name, number in _BUILT.findall(built)}
    free = [int(kilobytes) * 1024 / MB for kilobytes in _AVAILABLE.findall(available)]
    process_mb = free[0] - min(free[1:]) if len(free) > 1 else None
    process_mb = None if process_mb is None or process_mb <= 0 else process_mb
    if len(parts) == 2:
        weights_mb, activations_mb = parts["Weights"], parts["Activation"]
        return Memory(weights_mb + activations_mb, weights_mb, activations_mb, process_mb, "build")
    if (contexts := _LOADED.findall(loaded)) and (whole := int(contexts[-1])):
        return Memory(whole * _MIB, None, None, process_mb, "loading")
    return None
