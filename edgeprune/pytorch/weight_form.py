"""How an initializer of the canonical ONNX model comes from the tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SCALE_TOLERANCE = 1e-4
"""Relative difference of a folded weight and weight times scale: both are rounded to FP32, and some exporters fold in
FP32."""

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
"""Names of the tensors of PyTorch's BatchNormalization."""


def relative_difference(found: Array, wanted: Array) -> float:
    """Largest absolute difference of two arrays of one shape, divided by the largest value (at least 1e-6)."""
    return float(np.abs(found - wanted).max(initial=0) / max(float(np.abs(wanted).max(initial=0)), 1e-6))


@dataclass(frozen=True)
class Norm:
    """A BatchNormalization of the checkpoint: the prefix of its four tensors, and its epsilon."""

    prefix: str
    epsilon: float

    @property
    def keys(self) -> tuple[str, ...]:
        """Its four tensors."""
        return tuple(f"{self.prefix}{name}" for name in NORM_TENSORS)

    def affine(self, state: Mapping[str, Array]) -> tuple[Array, Array]:
        """Scale and shift per channel, float64."""
        scale, shift, mean, variance = (state[key].astype(np.float64) for key in self.keys)
        scale = scale / np.sqrt(variance + self.epsilon)
        return scale, shift - mean * scale


@dataclass(frozen=True)
class Folded:
    """What was folded into a layer: a BatchNormalization, a vector that scales channels (layer scale), or both.

    ``gain`` is the vector's key; its channels are on its first axis, and its other axes have size 1.
    """

    norm: Norm | None
    gain: str | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Its tensors of the checkpoint."""
        return (*(self.norm.keys if self.norm is not None else ()), *((self.gain,) if self.gain is not None else ()))

    def factor(self, state: Mapping[str, Array]) -> Array | float:
        """The factor of each channel by the vector, float64."""
        return 1.0 if self.gain is None else np.asarray(state[self.gain].astype(np.float64).reshape(-1))

    def affine(self, state: Mapping[str, Array]) -> tuple[Array, Array]:
        """Scale and shift per channel, float64."""
        factor = self.factor(state)
        if self.norm is None:
            return np.asarray(factor), np.zeros_like(factor)
        scale, shift = self.norm.affine(state)
        return np.asarray(scale * factor), np.asarray(shift * factor)


@dataclass(frozen=True)
class Match:
    """How an initializer comes from the checkpoint.

    Attributes:
        key: tensor of the checkpoint.
        axes: axis of the tensor -> axis of the initializer.
        rows: the initializer's positions on the tensor's first axis, in order.
        folded: what scales the outputs, if anything.
        outputs: axis of the tensor with the outputs: 0, but 1 for a transposed convolution.
        bias: the layer's bias in the checkpoint, if there is one. It is cut with the outputs even if it is not in the
            export: equal biases are often stored once, and zero biases not at all.
    """

    key: str
    axes: tuple[int, ...]
    rows: NDArray[np.int64]
    folded: Folded | None = None
    outputs: int = 0
    bias: str | None = None

    @property
    def companions(self) -> tuple[str, ...]:
        """Vectors of the checkpoint that are cut with the outputs."""
        return (*(self.folded.keys if self.folded is not None else ()), *([self.bias] if self.bias is not None else ()))

    def value(self, state: Mapping[str, Array], rows: NDArray[np.int64]) -> Array:
        """The initializer computed from a state whose first axis has these rows; float64, up to axes of size 1."""
        part = state[self.key][rows].astype(np.float64)
        if self.folded is not None:
            scale, _ = self.folded.affine(state)
            part = part * along(scale, self.outputs, part.ndim)
        return np.transpose(part, np.argsort(self.axes)) if -1 not in self.axes else part


@dataclass(frozen=True)
class Shift:
    """How a bias comes from the checkpoint: from what was folded into a layer, and the layer's own bias if any."""

    folded: Folded
    bias: str | None
    rows: NDArray[np.int64]

    @property
    def keys(self) -> tuple[str, ...]:
        """Its tensors of the checkpoint."""
        return (*self.folded.keys, *((self.bias,) if self.bias is not None else ()))

    @property
    def key(self) -> str:
        """The first of them; all are cut in the same way."""
        return self.keys[0]

    def value(self, state: Mapping[str, Array], rows: NDArray[np.int64]) -> Array:
        """The bias computed from a state, float64."""
        scale, shift = self.folded.affine(state)
        own = state[self.bias].astype(np.float64) if self.bias is not None else 0.0
        return np.asarray((own * scale + shift)[rows])


@dataclass(frozen=True)
class Layer:
    """A node of the canonical model with its weight and bias, and the weight's axis of the outputs."""

    node: str
    weight: str
    bias: str | None
    output_axis: int
    hint: str = ""


def along(vector: Array, axis: int, ndim: int) -> Array:
    """A vector as an array of ``ndim`` axes, with its values along one of them."""
    return vector.reshape([-1 if i == axis else 1 for i in range(ndim)])


def prefix_of(key: str) -> str:
    """The module of a tensor of the checkpoint, with a final dot."""
    return key.rpartition(".")[0] + "." if "." in key else ""
