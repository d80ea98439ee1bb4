"""Which tensor of a checkpoint is behind which initializer of the canonical ONNX model: by name, by shape, by value.

Exporters rename weights, fold BatchNormalization into the layer before it, store a Linear's weight transposed; and the
canonical form takes fused projections apart. So names only propose, and values decide: an initializer is matched when
it can be computed from the checkpoint, to the rounding of its type, as

* a tensor, or some of its rows (a part of a fused projection), as it is or transposed;
* a tensor with every output channel scaled by a BatchNormalization of the checkpoint.

Everything is numpy: no torch is needed to find a match.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ModelError

Array = NDArray[Any]

SCALE_TOLERANCE = 1e-4
"""Relative, of a folded weight against weight times scale: float32 rounds both, some exporters fold in float32."""

_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Norm:
    """A BatchNormalization of the checkpoint, by the prefix of its four tensors, with the epsilon found."""

    prefix: str
    epsilon: float

    @property
    def keys(self) -> tuple[str, ...]:
        """Its four tensors."""
        return tuple(f"{self.prefix}{name}" for name in _NORM)

    def affine(self, state: Mapping[str, Array]) -> tuple[Array, Array]:
        """Scale and shift per channel, float64."""
        scale, shift, mean, variance = (state[key].astype(np.float64) for key in self.keys)
        scale = scale / np.sqrt(variance + self.epsilon)
        return scale, shift - mean * scale


@dataclass(frozen=True)
class Match:
    """How an initializer comes from the checkpoint.

    Attributes:
        key: tensor of the checkpoint.
        axes: axis of the tensor -> axis of the initializer.
        rows: positions on the tensor's first axis that the initializer holds, in order.
        norm: scales the outputs, if there is one.
        outputs: axis of the tensor that the outputs run along: 0, but 1 of a transposed convolution.
        bias: the layer's bias in the checkpoint, if it has one: it is cut with the outputs, whatever the export made of
            it (biases of equal values are often stored once, and zeros not at all).
    """

    key: str
    axes: tuple[int, ...]
    rows: NDArray[np.int64]
    norm: Norm | None = None
    outputs: int = 0
    bias: str | None = None

    @property
    def companions(self) -> tuple[str, ...]:
        """Vectors of the checkpoint that are cut with the outputs."""
        return (*(self.norm.keys if self.norm is not None else ()), *([self.bias] if self.bias is not None else ()))

    def value(self, state: Mapping[str, Array], rows: NDArray[np.int64]) -> Array:
        """The initializer by this match, of a state whose first axis has these rows; float64, up to axes of one."""
        part = state[self.key][rows].astype(np.float64)
        if self.norm is not None:
            scale, _ = self.norm.affine(state)
            part = part * _along(scale, self.outputs, part.ndim)
        return np.transpose(part, np.argsort(self.axes)) if -1 not in self.axes else part


@dataclass(frozen=True)
class Shift:
    """A bias that a BatchNormalization, and the layer's own bias if it has one, make up."""

    norm: Norm
    bias: str | None
    rows: NDArray[np.int64]

    def value(self, state: Mapping[str, Array], rows: NDArray[np.int64]) -> Array:
        """The bias by this, float64."""
        scale, shift = self.norm.affine(state)
        own = state[self.bias].astype(np.float64) if self.bias is not None else 0.0
        return np.asarray((own * scale + shift)[rows])


@dataclass(frozen=True)
class Layer:
    """A node of the canonical model with its weight and bias, and the axis of the weight that its outputs run along."""

    node: str
    weight: str
    bias: str | None
    output_axis: int
    hint: str = ""


@dataclass(frozen=True)
class Unmatched:
    """Why a layer's weight has no match, as a sentence."""

    reason: str


@dataclass
class Matcher:
    """Finds matches, one initializer after the other; what was found helps with what follows."""

    state: Mapping[str, Array]
    matches: dict[str, Match | Shift] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rows = _index(self.state)
        self._taken: set[str] = set()
        self._norms = sorted(k[: -len(_NORM[3])] for k in self.state if k.endswith(_NORM[3]))
        self._norms = [p for p in self._norms if all(f"{p}{name}" in self.state for name in _NORM)]
        self._place = {key: place for place, key in enumerate(self.state)}

    def layer(self, layer: Layer, weight: Array, bias: Array | None) -> Unmatched | None:
        """Match the weight of a layer, and its bias with it."""
        found = self.matches.get(layer.weight)
        if found is None:
            new = self._plain(layer, weight) or self._folded(layer, weight, bias)
            if new is None:
                return Unmatched(
                    f"the weight {layer.weight!r} of node {layer.node!r}, shape {weight.shape}, comes from no tensor "
                    f"of the checkpoint, as it is or scaled by a BatchNormalization{self._near(layer.weight)}"
                )
            own = f"{_prefix(new.key)}bias"
            if own != new.key and self.state.get(own, np.empty(0)).shape == (self.state[new.key].shape[new.outputs],):
                new = replace(new, bias=own)
            self.matches[layer.weight] = found = new
            self._taken.update((new.key, *new.companions))
        if bias is None or layer.bias is None or layer.bias in self.matches or not isinstance(found, Match):
            return None
        rows = found.rows if found.outputs == 0 else np.arange(bias.size)
        if found.norm is not None:
            self.matches[layer.bias] = Shift(found.norm, found.bias, rows)
        elif found.bias is not None and _equal(self.state[found.bias][rows], bias.reshape(-1)):
            self.matches[layer.bias] = Match(found.bias, (0,), rows)
        return None

    def tensor(self, name: str, value: Array, hints: Sequence[str] = ()) -> None:
        """Match any other initializer: by name, else by a value that only one tensor has, else by place.

        Raises:
            ModelError: nothing in the checkpoint is it.
        """
        if name in self.matches:
            return
        equal = [k for k, t in self.state.items() if t.size == value.size and _equal_up_to_ones(t, value)]
        if not equal:
            raise ModelError(f"the tensor {name!r}, shape {value.shape}, is none of the checkpoint's{self._near(name)}")
        named = [k for k in equal if k == name or k in hints] or [k for k in equal if name.endswith(f".{k}")]
        free = [k for k in equal if k not in self._taken]
        key = (named or free or equal)[0]
        if not named and len(equal) > 1:
            self.notes.append(f"{name!r} has the values of {len(equal)} tensors and is taken for {key!r}, by its place")
        self.matches[name] = Match(key, _axes_up_to_ones(self.state[key], value), np.arange(len(self.state[key])))
        self._taken.add(key)

    def _plain(self, layer: Layer, weight: Array) -> Match | None:
        """A tensor whose rows the weight has, as they are."""
        found = []
        for axes in _orders(weight.ndim, layer.output_axis):
            rows = _row_keys(np.transpose(weight, axes))
            for key in self._rows.get(rows[0], ()):
                index = self._rows_of(key)
                if all(r in index for r in rows) and self.state[key].shape[1:] == np.transpose(weight, axes).shape[1:]:
                    outputs = axes.index(layer.output_axis)
                    found.append(Match(key, axes, np.array([index[r] for r in rows]), outputs=outputs))
        if not found:
            return None
        whole = [m for m in found if len(m.rows) == len(self.state[m.key])] or found
        return self._best(whole, layer)

    def _best(self, found: Sequence[Match], layer: Layer) -> Match:
        named = [m for m in found if m.key == layer.weight or (layer.hint and _prefix(m.key) == layer.hint)]
        free = [m for m in found if m.key not in self._taken]
        best = (named or free or list(found))[0]
        if not named and len({m.key for m in found}) > 1:
            keys = sorted({m.key for m in found})
            self.notes.append(f"{layer.weight!r} has the values of {len(keys)} tensors, and is taken for {best.key!r}")
        return best

    def _folded(self, layer: Layer, weight: Array, bias: Array | None) -> Match | None:
        """A tensor and a BatchNormalization that together make the weight and the bias."""
        shift = np.zeros(weight.shape[layer.output_axis]) if bias is None else bias.reshape(-1).astype(np.float64)
        found: list[Match] = []
        for axes in _orders(weight.ndim, layer.output_axis):
            folded = np.transpose(weight, axes).astype(np.float64)
            for key, tensor in self.state.items():
                outputs = axes.index(layer.output_axis)
                if tensor.shape != folded.shape or not (scale := _scale(tensor, folded, outputs)).size:
                    continue
                norm = self._norm_for(key, scale, shift)
                if norm is not None:
                    found.append(Match(key, axes, np.arange(len(tensor)), norm, outputs))
        if not found:
            return None
        return self._best(found, layer)

    def _norm_for(self, key: str, scale: Array, bias: Array) -> Norm | None:
        """The BatchNormalization that turns the tensor into what was found: of several, the nearest behind it."""
        own = self.state.get(f"{_prefix(key)}bias")
        behind = sorted(
            self._norms, key=lambda p: (self._place[f"{p}weight"] < self._place[key], self._distance(p, key))
        )
        for prefix in behind:
            gamma, beta, mean, variance = (self.state[f"{prefix}{n}"].astype(np.float64) for n in _NORM)
            if gamma.shape != scale.shape or f"{prefix}weight" in self._taken:
                continue
            epsilon = _epsilon(gamma, variance, scale)
            expected = gamma / np.sqrt(variance + epsilon)
            shift = beta + expected * ((0.0 if own is None else own) - mean)
            known = np.isfinite(scale)
            if _close(expected[known], scale[known]) and _close(shift, bias):
                return Norm(prefix, epsilon)
        return None

    def _distance(self, prefix: str, key: str) -> int:
        return abs(self._place[f"{prefix}weight"] - self._place[key])

    def _rows_of(self, key: str) -> dict[bytes, int]:
        keys = _row_keys(self.state[key])
        return {row: i for i, row in enumerate(keys)} if len(set(keys)) == len(keys) else {}

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.state, n=1, cutoff=0.6)
        return f" (the name nearest to it is {near[0]!r}, shape {self.state[near[0]].shape})" if near else ""


def _index(state: Mapping[str, Array]) -> dict[bytes, list[str]]:
    """Bytes of a row -> tensors of two axes or more that have it."""
    index: dict[bytes, list[str]] = {}
    for key, tensor in state.items():
        if tensor.ndim >= 2:
            for row in set(_row_keys(tensor)):
                index.setdefault(row, []).append(key)
    return index


def _row_keys(tensor: Array) -> list[bytes]:
    flat = np.ascontiguousarray(tensor.reshape(len(tensor), -1)) + 0.0  # minus zero is zero
    return [row.tobytes() for row in flat]


def _orders(ndim: int, output_axis: int) -> list[tuple[int, ...]]:
    """How the initializer's axes may have to be permuted to be a tensor's: PyTorch has a layer's outputs first."""
    straight = tuple(range(ndim))
    swapped = (1, 0, *range(2, ndim))
    return [swapped, straight] if output_axis == 1 and ndim == 2 else [straight, swapped] if ndim == 2 else [straight]


def _along(vector: Array, axis: int, ndim: int) -> Array:
    return vector.reshape([-1 if i == axis else 1 for i in range(ndim)])


def _scale(tensor: Array, folded: Array, axis: int) -> Array:
    """Factor of every output channel, NaN where the tensor is zero there; empty if they are not proportional."""
    a, b = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (tensor.astype(np.float64), folded))
    power = (a * a).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(power > 0, (a * b).sum(1) / power, np.nan)
    rest = np.abs(b - np.nan_to_num(scale)[:, None] * a).max(1)
    return scale if (rest <= SCALE_TOLERANCE * np.abs(b).max(1) + 1e-12).all() else np.empty(0)


def _epsilon(gamma: Array, variance: Array, scale: Array) -> float:
    """The epsilon with which gamma and variance give the scale, from the channel where it shows best."""
    usable = np.isfinite(scale) & (np.abs(scale) > 0)
    if not usable.any():
        return 1e-5
    found = (gamma[usable] / scale[usable]) ** 2 - variance[usable]
    likely = (1e-5, 1e-3, 1e-6, 1e-4, 1e-2, 1e-7, 1e-8, 0.0)
    sharpest = np.argmin(variance[usable])
    return min(likely, key=lambda e: abs(e - found[sharpest]))


def _close(a: Array, b: Array) -> bool:
    return bool(
        a.shape == b.shape and (np.abs(a - b) <= SCALE_TOLERANCE * max(1e-6, float(np.abs(b).max(initial=0)))).all()
    )


def _equal(a: Array, b: Array) -> bool:
    return bool(a.shape == b.shape and np.array_equal(a, b))


def _equal_up_to_ones(tensor: Array, value: Array) -> bool:
    return _dims(tensor) == _dims(value) and np.array_equal(tensor.reshape(-1), value.reshape(-1))


def _dims(tensor: Array) -> list[int]:
    return [n for n in tensor.shape if n != 1]


def _axes_up_to_ones(tensor: Array, value: Array) -> tuple[int, ...]:
    """Axis of the tensor -> axis of the value, through the axes longer than one; -1 for the others."""
    theirs = iter([axis for axis, n in enumerate(value.shape) if n != 1])
    return tuple(next(theirs) if n != 1 else -1 for n in tensor.shape)


def _prefix(key: str) -> str:
    return key.rpartition(".")[0] + "." if "." in key else ""
