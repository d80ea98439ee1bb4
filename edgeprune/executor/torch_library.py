"""Whether PyTorch, an optional library, is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

from edgeprune.errors import BackendError
from edgeprune.support import this_cpu


def has_torch() -> bool:
    """Whether PyTorch can be imported."""
    return importlib.util.find_spec("torch") is not None


def require_torch(what: str) -> None:
    """Check that PyTorch is installed.

    Args:
        what: the command or flag that needs it.

    Raises:
        BackendError: it is not; the text has the command that installs it.
    """
    if not has_torch():
        raise BackendError(f"{what} needs PyTorch: pip install 'edgeprune[torch]'")


def has_bfloat16(device: Any) -> bool:
    """Whether a PyTorch device computes in bfloat16 in hardware, and not only through float32."""
    import torch

    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = {"avx512_bf16", "amx_bf16", "bf16"} & set(this_cpu().features)
    return bool(has) and bool(torch.backends.mkldnn.is_available())
