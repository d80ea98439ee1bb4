"""Inputs and outputs of a loaded model, and random feeds for measurements, whatever the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ModelError, UsageError
from edgeprune.support import random_values

Feeds = Mapping[str, NDArray[Any]]

_NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    **{f"tensor({kind})": np.dtype(kind) for kind in ("float16", "int8", "int16", "int32", "int64", "bool")},
    **{f"tensor({kind})": np.dtype(kind) for kind in ("uint8", "uint16", "uint32", "uint64")},
}


@dataclass(frozen=True)
class Port:
    """An input or output of a loaded model: its type as onnxruntime spells it; an open dimension is a name, or None."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


def random_feeds(
    ports: Sequence[Port], seed: int = 0, shapes: Mapping[str, Sequence[int]] | None = None
) -> dict[str, NDArray[Any]]:
    """A feed for measurements: standard normal floats; integers and booleans of 0 and 1 (valid as an index).

    Args:
        ports: the inputs of the model.
        seed: Seed of the random numbers.
        shapes: Input name -> shape, for inputs with an open size. An open first size counts as a batch of 1.

    Raises:
        UsageError: Another size is open and ``shapes`` does not give it, or ``shapes`` has an unknown input.
        ModelError: An input has a type that NumPy does not have.
    """
    shapes = shapes or {}
    if unknown := sorted(set(shapes) - {port.name for port in ports}):
        names = ", ".join(port.name for port in ports)
        raise UsageError(f"the model has no input {unknown[0]!r}; its inputs are: {names}")
    random = np.random.default_rng(seed)
    feeds: dict[str, NDArray[Any]] = {}
    for port in ports:
        shape = _fixed_shape(port, shapes.get(port.name))
        if port.type not in _NUMPY_TYPES:
            raise ModelError(f"input {port.name!r} has type {port.type}, which cannot be fed from numpy")
        dtype = _NUMPY_TYPES[port.type]
        feeds[port.name] = random_values(shape, dtype, random)
    return feeds


def _fixed_shape(port: Port, given: Sequence[int] | None) -> tuple[int, ...]:
    if given is not None:
        fits = len(given) == len(port.shape) and all(
            size > 0 and (not isinstance(open_size, int) or size == open_size)
            for size, open_size in zip(given, port.shape, strict=True)
        )
        if not fits:
            shown = "x".join(str(d if d is not None else "?") for d in port.shape)
            raise UsageError(f"shape {'x'.join(map(str, given))} does not fit input {port.name!r}, which is {shown}")
        return tuple(given)
    shape = [1 if axis == 0 and not isinstance(size, int) else size for axis, size in enumerate(port.shape)]
    fixed = [size for size in shape if isinstance(size, int)]
    if len(fixed) < len(shape):
        open_size = next(size for size in shape if not isinstance(size, int))
        called = f"the open size {open_size!r}" if open_size else "an open size"
        shown = "x".join(str(d) if isinstance(d, int) else "?" for d in port.shape)
        raise UsageError(f"input {port.name!r} ({shown}) has {called}: give --shape {port.name}=SIZES")
    return tuple(fixed)
