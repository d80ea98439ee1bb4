"""Whether PyTorch, an optional library, is installed."""

from __future__ import annotations

import importlib.util

from edgeprune.errors import BackendError


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
