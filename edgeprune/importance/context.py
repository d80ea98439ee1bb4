"""The input of every criterion: the groups, the layers that read them, their weights, and the calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration
from edgeprune.dependency import Group, Ranking
from edgeprune.errors import CalibrationError
from edgeprune.graph import Floats, Linear, clone, count_macs, find_linears, infer_shapes
from edgeprune.importance.reader_refits import ReaderRefits
from edgeprune.recovery import Moments

_CHUNK_ELEMENTS = 1 << 22
_WEIGHT_ROLES = frozenset({"producer", "consumer", "pointwise"})


@dataclass(frozen=True, eq=False)
class Consumer:
    """A linear layer that contracts a group's channels.

    ``unit`` has shape (layer groups, features): the group's unit that each feature belongs to, or -1.
    """

    linear: Linear
    unit: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Context:
    """The input of a criterion.

    Attributes:
        model: the dense canonical model.
        groups: the groups to rank.
        calibration: samples; None if the criterion needs none.
        step: units that will be removed at a time.
        seed: seed of the random rows.
        shared: covariances by node, kept for later calls with the same model and data; None to keep none.
        refits: keeps the refits that `obs` makes, by group; None to keep none.
    """

    model: ir.Model
    groups: tuple[Group, ...]
    calibration: Calibration | None
    step: int = 1
    seed: int = 0
    shared: dict[str, Moments] | None = None
    refits: dict[str, ReaderRefits] | None = None

    @cached_property
    def linears(self) -> dict[str, Linear]:
        """Linear layers by node name."""
        return find_linears(self.model)

    @cached_property
    def _by_weight(self) -> Mapping[str, list[Linear]]:
        found: dict[str, list[Linear]] = {}
        for linear in self.linears.values():
            found.setdefault(linear.weight, []).append(linear)
        return found

    def data(self) -> Calibration:
        """The calibration samples.

        Raises:
            CalibrationError: there are none.
        """
        if self.calibration is None:
            raise CalibrationError("this criterion needs calibration data")
        return self.calibration

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of one batch of one sample."""
        shapes = {name: x.shape for name, x in next(iter(self.data().batches(1))).items()}
        return sum(count_macs(infer_shapes(clone(self.model), shapes)).values())

    def consumers(self, group: Group) -> list[Consumer]:
        """The linear layers that contract the group's channels."""
        found = []
        for member in group.members:
            if member.role != "consumer":
                continue
            found += [
                Consumer(linear, linear.feature_values(member.unit))
                for linear in self._by_weight.get(member.value, ())
                if linear.channel_axis == member.axis
            ]
        return found

    def weight(self, name: str) -> Floats:
        """An initializer's values as float64."""
        tensor = self.model.graph.initializers[name].const_value
        assert tensor is not None, name
        return tensor.numpy().astype(np.float64)

    def weight_slices(self, group: Group) -> Iterator[tuple[NDArray[np.int32], Floats]]:
        """For every weight with two axes or more in the group: unit of each row, and the rows (positions, ...).

        The rows are a view of the stored weight: a weight in a file is not loaded as a whole.
        """
        for member in group.members:
            tensor = self.model.graph.initializers[member.value].const_value if member.role in _WEIGHT_ROLES else None
            if tensor is None or len(tensor.shape) < 2 or tensor.size == tensor.shape[member.axis]:
                continue
            yield member.unit, np.moveaxis(tensor.numpy(), member.axis, 0)


def by_rows(rows: Floats, measure: Callable[[Floats], Floats]) -> Floats:
    """A measure of every row of a weight, shape (positions,); computed in float64, a few rows at a time."""
    at_once = max(1, _CHUNK_ELEMENTS * len(rows) // max(rows.size, 1))
    parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
    return np.concatenate([measure(part.reshape(len(part), -1).astype(np.float64)) for part in parts])


def sum_over_units(unit: NDArray[np.int32], values: Floats, size: int) -> Floats:
    """Sum of the values at the positions of each unit: shape (size,). Positions of unit -1 do not count."""
    inside = unit >= 0
    return np.bincount(unit[inside], weights=values[inside], minlength=size)


def ranking_from(scores: Floats) -> Ranking:
    """A ranking with the lowest score first; the loss after each removal is the removed share of the total score."""
    order = np.argsort(scores, kind="stable").astype(np.int64)
    positive = np.maximum(scores, 0.0)
    total = float(positive.sum()) or 1.0
    return Ranking(order, np.concatenate([[0.0], np.cumsum(positive[order]) / total]))
