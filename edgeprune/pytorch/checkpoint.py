"""PyTorch checkpoints as arrays, and back."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from edgeprune.errors import BackendError, UsageError
from edgeprune.support import describe_failure, output_file

_WRAPPERS = ("state_dict", "model_state_dict", "model", "ema", "net")


def import_torch() -> ModuleType:
    """The module ``torch``.

    Raises:
        BackendError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendError("this needs PyTorch; pip install 'edgeprune[torch]'") from error
    module: ModuleType = torch
    return module


def load_state(file: Path) -> dict[str, NDArray[Any]]:
    """Tensors of a state dict by name, also inside a training checkpoint; half precision becomes float32.

    Raises:
        UsageError: the file cannot be read, or has no state dict.
        BackendError: PyTorch is not installed.
    """
    return {key: _array(tensor) for key, tensor in read_tensors(file).items()}


def state_of(module: Any) -> dict[str, NDArray[Any]]:
    """Parameters and buffers of a module by name; half precision becomes float32."""
    return {str(key): _array(tensor) for key, tensor in module.state_dict().items()}


def save_state(state: Mapping[str, NDArray[Any]], like: Path, out: Path, *, force: bool) -> None:
    """Write arrays as a state dict; the tensors get the types of those in another checkpoint.

    Raises:
        UsageError: the file exists, or cannot be written.
    """
    torch = import_torch()
    types = {key: tensor.dtype for key, tensor in read_tensors(like).items()}
    tensors = {key: torch.from_numpy(array.copy()).to(types[key]) for key, array in state.items()}
    with output_file(out, force=force) as fresh:
        torch.save(tensors, fresh)


def read_tensors(file: Path) -> dict[str, Any]:
    """Tensors of a state dict by name; see `load_state`."""
    torch = import_torch()
    if not file.is_file():
        raise UsageError(f"there is no checkpoint {str(file)!r}")
    try:
        data = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        raise UsageError(
            f"{str(file)!r} is not read: it has more than tensors, which could run code, or it is damaged; write a "
            f"state dict with torch.save(model.state_dict(), file) ({describe_failure(error)[:120]})"
        ) from error
    for name in _WRAPPERS:
        if isinstance(data, dict) and isinstance(data.get(name), dict):
            data = data[name]
            break
    if isinstance(data, dict):
        found = {str(key): value for key, value in data.items() if isinstance(value, torch.Tensor)}
        if found:
            return found
    raise UsageError(f"{str(file)!r} has no state dict, but a {type(data).__name__}")


def _array(tensor: Any) -> NDArray[Any]:
    torch = import_torch()
    plain = tensor.detach().cpu()
    array: NDArray[Any] = (plain.float() if plain.dtype in (torch.float16, torch.bfloat16) else plain).numpy()
    return array
