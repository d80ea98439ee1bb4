"""The two orders of a tensor's axes, and vectors, arrays and axis numbers that are rewritten from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import dim_keys, ints_attribute, is_op
from edgeprune.lengths import Dim

T = TypeVar("T")


@dataclass(frozen=True)
class Order:
    """Channels-last tensors of one rank (N, spatial axes, C), and their channels-first form (N, C, spatial axes)."""

    rank: int

    @property
    def to_last(self) -> tuple[int, ...]:
        """The ``perm`` of a Transpose from channels-first to channels-last: also where each channels-last axis goes."""
        return (0, *range(2, self.rank), 1)

    @property
    def to_first(self) -> tuple[int, ...]:
        """The ``perm`` of a Transpose from channels-last to channels-first."""
        return (0, self.rank - 1, *range(1, self.rank - 1))

    def axis(self, axis: int) -> int:
        """The channels-first number of a channels-last axis; negative numbers count from the end."""
        return self.to_last[axis % self.rank]

    def first(self, entries: Sequence[T]) -> list[T]:
        """One entry for each channels-last axis, in the channels-first order."""
        return [entries[axis] for axis in self.to_first]

    def array(self, array: NDArray[Any]) -> NDArray[Any]:
        """A channels-last constant, of this or a lower rank, in channels-first."""
        whole: NDArray[Any] = array.reshape((1,) * (self.rank - array.ndim) + array.shape)
        turned: NDArray[Any] = whole.transpose(self.to_first)
        return turned

    def keeps(self, axes: Sequence[int]) -> bool:
        """Whether these channels-last axes, in rising order, have the same order in channels-first."""
        moved = [self.axis(axis) for axis in axes]
        return moved == sorted(moved)

    def keeps_elements(self, dims: Sequence[Dim]) -> bool:
        """Whether a channels-last tensor of this shape has its elements in the same order in channels-first."""
        return self.keeps([axis for axis, dim in enumerate(dims) if dim != 1])

    def has(self, value: ir.Value | None) -> bool:
        """Whether a value has this rank."""
        return value is not None and value.shape is not None and len(value.shape) == self.rank

    def turns_last(self, node: ir.Node | None) -> bool:
        """Whether a node is the Transpose from channels-first to channels-last."""
        return node is not None and is_op(node, "Transpose") and ints_attribute(node, "perm") == self.to_last

    def turns_first(self, node: ir.Node | None) -> bool:
        """Whether a node is the Transpose from channels-last to channels-first."""
        return node is not None and is_op(node, "Transpose") and ints_attribute(node, "perm") == self.to_first

    def cost(self, value: ir.Value) -> int:
        """What a Transpose of a value moves: the elements of a sample, where an open size counts as 16.

        A Transpose that only moves axes of size 1 moves nothing; it costs one, as a node.
        """
        dims = dim_keys(value) or ()
        if self.keeps_elements(dims):
            return 1
        size = 1
        for dim in dims[1:]:
            size *= dim if isinstance(dim, int) else _OPEN
        return 1 + size


_OPEN = 16
