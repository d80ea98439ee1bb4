"""Find by value which normalization and which vector of a checkpoint were folded into a layer.

An exporter folds a BatchNormalization into the layer before it. The canonical form folds a factor for every channel
("layer scale"). The factor of the layer's weight and the change of its bias show which they were.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.pytorch.weight_form import (
    NORM_TENSORS,
    SCALE_TOLERANCE,
    Folded,
    Norm,
    prefix_of,
    relative_difference,
)

Array = NDArray[Any]

_NEAREST = 3
"""Number of normalizations after a layer that are tried together with a vector."""


@dataclass
class Folds:
    """Normalizations and vectors of a checkpoint that may have been folded into its layers."""

    state: Mapping[str, Array]
    _norms: list[str] = field(default_factory=list)
    _gains: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        last = NORM_TENSORS[-1]
        prefixes = sorted(k[: -len(last)] for k in self.state if k.endswith(last))
        self._norms = [p for p in prefixes if all(f"{p}{name}" in self.state for name in NORM_TENSORS)]
        self._place = {key: place for place, key in enumerate(self.state)}
        of_norms = {f"{p}{name}" for p in self._norms for name in NORM_TENSORS}
        for key, tensor in self.state.items():
            floating = np.issubdtype(tensor.dtype, np.floating)
            if key not in of_norms and floating and tensor.ndim and tensor.size == tensor.shape[0] > 1:
                self._gains.setdefault(tensor.size, []).append(key)

    def find(self, key: str, scale: Array, bias: Array, taken: Collection[str]) -> Folded | None:
        """The normalization or vector with this scale and bias; if there are several, the nearest after the layer.

        Args:
            key: the layer's weight in the checkpoint.
            scale: factor of each output channel, NaN where the weight is zero; shape (channels,).
            bias: bias of each output channel after scaling, shape (channels,).
            taken: tensors that belong to other layers.
        """
        own = self.state.get(f"{prefix_of(key)}bias")
        before: Array | float = 0.0 if own is None or own.shape != scale.shape else own.astype(np.float64)
        norms = [p for p in self._norms_behind(key) if f"{p}weight" not in taken and self._size(p) == scale.shape]
        for prefix in norms:
            if norm := self._norm(prefix, scale, bias, before):
                return Folded(norm)
        free = (k for k in self._gains.get(scale.size, ()) if k not in taken)
        gains = sorted(free, key=lambda k: (-_shared_modules(k, key), *self._far(k, key)))
        for gain in gains:
            factor = self.state[gain].astype(np.float64).reshape(-1)
            if _agrees(factor, scale) and _close(before * factor, bias):
                return Folded(None, gain)
        for prefix in norms[:_NEAREST]:
            for gain, norm in self._both(prefix, gains, scale, bias, before):
                return Folded(norm, gain)
        return None

    def _norm(self, prefix: str, scale: Array, bias: Array, before: Array | float) -> Norm | None:
        gamma, beta, mean, variance = (self.state[f"{prefix}{n}"].astype(np.float64) for n in NORM_TENSORS)
        epsilon = _epsilon(gamma, variance, scale)
        expected = gamma / np.sqrt(variance + epsilon)
        found = _agrees(expected, scale) and _close(beta + expected * (before - mean), bias)
        return Norm(prefix, epsilon) if found else None

    def _both(
        self, prefix: str, gains: Collection[str], scale: Array, bias: Array, before: Array | float
    ) -> Iterator[tuple[str, Norm]]:
        """Vectors that give the scale and the bias if they follow this normalization."""
        for gain in gains:
            factor = self.state[gain].astype(np.float64).reshape(-1)
            if factor.all() and (norm := self._norm(prefix, scale / factor, bias / factor, before)):
                yield gain, norm

    def _norms_behind(self, key: str) -> list[str]:
        return sorted(self._norms, key=lambda p: self._far(f"{p}weight", key))

    def _far(self, candidate: str, key: str) -> tuple[bool, int]:
        """Sorts tensors by their distance after another one in the checkpoint; tensors before it come last."""
        return self._place[candidate] < self._place[key], abs(self._place[candidate] - self._place[key])

    def _size(self, prefix: str) -> tuple[int, ...]:
        return self.state[f"{prefix}weight"].shape


def proportions(tensor: Array, folded: Array, axis: int) -> Array:
    """Factor of every output channel, NaN where the tensor is zero there; empty if they are not proportional."""
    a, b = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (tensor.astype(np.float64), folded))
    power = (a * a).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(power > 0, (a * b).sum(1) / power, np.nan)
    rest = np.abs(b - np.nan_to_num(scale)[:, None] * a).max(1)
    return scale if (rest <= SCALE_TOLERANCE * np.abs(b).max(1) + 1e-12).all() else np.empty(0)


def _shared_modules(a: str, b: str) -> int:
    """Number of modules that contain both tensors: a block's own vector may come before its layers."""
    pairs = zip(a.split(".")[:-1], b.split(".")[:-1], strict=False)
    return len(list(itertools.takewhile(lambda names: names[0] == names[1], pairs)))


def _agrees(expected: Array, scale: Array) -> bool:
    known = np.isfinite(scale)
    return _close(expected[known], scale[known])


def _epsilon(gamma: Array, variance: Array, scale: Array) -> float:
    """The epsilon with which gamma and variance give the scale, from the channel with the smallest variance."""
    usable = np.isfinite(scale) & (np.abs(scale) > 0)
    if not usable.any():
        return 1e-5
    found = (gamma[usable] / scale[usable]) ** 2 - variance[usable]
    likely = (1e-5, 1e-3, 1e-6, 1e-4, 1e-2, 1e-7, 1e-8, 0.0)
    smallest = np.argmin(variance[usable])
    return min(likely, key=lambda e: abs(e - found[smallest]))


def _close(a: Array, b: Array) -> bool:
    return relative_difference(np.broadcast_to(a, b.shape), b) <= SCALE_TOLERANCE
