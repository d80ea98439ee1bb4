"""Backends build, benchmark and verify a lowered model on an inference runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.errors import BackendError

if TYPE_CHECKING:
    from edgeprune.backends.onnxruntime import OnnxRuntime


def open_backend(target: str, threads: int) -> OnnxRuntime:
    """The runtime that measures on a target from this machine.

    Raises:
        TargetError: The target is not known.
        BackendError: Nothing here can run on that target.
    """
    from edgeprune.targets import load_profile

    if load_profile(target).name != "cpu":
        raise BackendError(f"no runtime on this machine can measure on {target!r}; what can be measured here is 'cpu'")
    from edgeprune.backends.onnxruntime import OnnxRuntime

    return OnnxRuntime(threads)
