"""Which tensor of a checkpoint each initializer of the canonical ONNX model comes from: by name, by shape, by value.

Exporters rename weights, fold BatchNormalization into the layer before it, and store a Linear's weight transposed. The
canonical form splits fused projections. So values decide, and names only help to choose between equal values. An
initializer matches if it can be computed from the checkpoint, up to the rounding of its type, as

* a tensor, or some of its rows (a part of a fused projection), unchanged or transposed;
* a tensor with every output channel scaled by a BatchNormalization or a vector of the checkpoint, or by both.

It works on NumPy arrays and does not need torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ModelError
from edgeprune.pytorch.weight_fold import Folds, proportions
from edgeprune.pytorch.weight_form import Layer, Match, Shift, prefix_of

Array = NDArray[Any]


@dataclass
class Matcher:
    """Finds matches, one initializer after the other; a tensor that is matched is less likely to match again."""

    state: Mapping[str, Array]
    matches: dict[str, Match | Shift] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rows = _index(self.state)
        self._taken: set[str] = set()
        self._folds = Folds(self.state)

    def layer(self, layer: Layer, weight: Array, bias: Array | None) -> str | None:
        """Match the weight of a layer and its bias; returns None, or a sentence if the weight has no match."""
        found = self.matches.get(layer.weight)
        if found is None:
            new = self._plain(layer, weight) or self._folded(layer, weight, bias)
            if new is None:
                return (
                    f"the weight {layer.weight!r} of node {layer.node!r}, shape {weight.shape}, comes from no tensor "
                    "of the checkpoint, neither unchanged nor scaled by a BatchNormalization or a vector"
                    f"{self._near(layer.weight)}"
                )
            own = f"{prefix_of(new.key)}bias"
            if own != new.key and self.state.get(own, np.empty(0)).shape == (self.state[new.key].shape[new.outputs],):
                new = replace(new, bias=own)
            self.matches[layer.weight] = found = new
            self._taken.update((new.key, *new.companions))
        if bias is None or layer.bias is None or layer.bias in self.matches or not isinstance(found, Match):
            return None
        rows = found.rows if found.outputs == 0 else np.arange(bias.size)
        if found.folded is not None:
            self.matches[layer.bias] = Shift(found.folded, found.bias, rows)
        elif found.bias is not None and _equal(self.state[found.bias][rows], bias.reshape(-1)):
            self.matches[layer.bias] = Match(found.bias, (0,), rows)
        return None

    def tensor(self, name: str, value: Array) -> None:
        """Match any other initializer: by name, else by a value that only one tensor has, else by order.

        Raises:
            ModelError: no tensor of the checkpoint has its values.
        """
        if name in self.matches:
            return
        equal = [k for k, t in self.state.items() if t.size == value.size and _equal_up_to_ones(t, value)]
        if not equal:
            raise ModelError(f"the tensor {name!r}, shape {value.shape}, is not in the checkpoint{self._near(name)}")
        named = [k for k in equal if k == name] or [k for k in equal if name.endswith(f".{k}")]
        free = [k for k in equal if k not in self._taken]
        key = (named or free or equal)[0]
        if not named and len(equal) > 1:
            self.notes.append(f"{name!r} has the values of {len(equal)} tensors; {key!r} is assumed, by its order")
        self.matches[name] = Match(key, _axes_up_to_ones(self.state[key], value), np.arange(len(self.state[key])))
        self._taken.add(key)

    def _plain(self, layer: Layer, weight: Array) -> Match | None:
        """A match with a tensor that has all rows of the weight."""
        found = []
        for axes in _orders(weight.ndim, layer.output_axis):
            rows = _row_keys(np.transpose(weight, axes))
            for key in self._rows.get(rows[0], ()):
                index = self._rows_of(key)
                if all(r in index for r in rows) and self.state[key].shape[1:] == np.transpose(weight, axes).shape[1:]:
                    outputs = axes.index(layer.output_axis)
                    found.append(Match(key, axes, np.array([index[r] for r in rows]), outputs=outputs))
        whole = [m for m in found if len(m.rows) == len(self.state[m.key])] or found
        return self._best(whole, layer)

    def _best(self, found: Sequence[Match], layer: Layer) -> Match | None:
        if not found:
            return None
        named = [m for m in found if m.key == layer.weight or (layer.hint and prefix_of(m.key) == layer.hint)]
        free = [m for m in found if m.key not in self._taken]
        best = (named or free or list(found))[0]
        if not named and len({m.key for m in found}) > 1:
            keys = sorted({m.key for m in found})
            self.notes.append(f"{layer.weight!r} has the values of {len(keys)} tensors; {best.key!r} is assumed")
        return best

    def _folded(self, layer: Layer, weight: Array, bias: Array | None) -> Match | None:
        """A match with a tensor and what was folded into it, which together give the weight and the bias."""
        shift = np.zeros(weight.shape[layer.output_axis]) if bias is None else bias.reshape(-1).astype(np.float64)
        found: list[Match] = []
        for axes in _orders(weight.ndim, layer.output_axis):
            folded = np.transpose(weight, axes).astype(np.float64)
            for key, tensor in self.state.items():
                outputs = axes.index(layer.output_axis)
                if tensor.shape != folded.shape or not (scale := proportions(tensor, folded, outputs)).size:
                    continue
                fold = self._folds.find(key, scale, shift, self._taken)
                if fold is not None:
                    found.append(Match(key, axes, np.arange(len(tensor)), fold, outputs))
        return self._best(found, layer)

    def _rows_of(self, key: str) -> dict[bytes, int]:
        keys = _row_keys(self.state[key])
        return {row: i for i, row in enumerate(keys)} if len(set(keys)) == len(keys) else {}

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.state, n=1, cutoff=0.6)
        return f" (the nearest name is {near[0]!r}, shape {self.state[near[0]].shape})" if near else ""


def _index(state: Mapping[str, Array]) -> dict[bytes, list[str]]:
    """Bytes of a row -> tensors with two axes or more that have it."""
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
    """Permutations of the initializer's axes that may give the tensor's: in PyTorch a layer's outputs come first."""
    straight = tuple(range(ndim))
    swapped = (1, 0, *range(2, ndim))
    return [swapped, straight] if output_axis == 1 and ndim == 2 else [straight, swapped] if ndim == 2 else [straight]


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
