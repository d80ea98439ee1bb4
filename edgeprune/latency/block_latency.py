"""Latency of a whole model as the sum over its blocks, for any widths and any precision of each block.

    T(w, f) = correction * ( sum_b  theta[b, f_b] . features_b(w)  +  switches )

where a switch is a tensor that passes from a float block to an integer block or back: it costs a + c * elements.
``theta`` is non-negative (Lawson & Hanson 1974), so predicted time never rises when an aligned width shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Widths
from edgeprune.latency.features import FEATURES, Geometry

Format = str
"""``fp32`` or ``fp16``: all in float; ``int8``: all that can be on integers; ``int8-core``: the weighted node alone
on integers."""


@dataclass(frozen=True, eq=False)
class Edge:
    """A tensor that block ``writer`` writes, as number ``tensor`` of its writes, and block ``reader`` reads."""

    writer: int
    reader: int
    tensor: int


class Latency(Protocol):
    """What the search asks of a latency model, measured or analytic.

    Attributes:
        edges: between blocks, wherever the formats of two of them may cost time together.
        sizes: units of every group in the dense network, shape (groups,).
        block_groups: per block, the groups whose widths its time depends on.
        call_us: microseconds of an inference besides its blocks and edges.
        error: typical relative error, as a fraction.
    """

    @property
    def edges(self) -> tuple[Edge, ...]: ...  # noqa: D102
    @property
    def sizes(self) -> Widths: ...  # noqa: D102
    @property
    def block_groups(self) -> tuple[frozenset[int], ...]: ...  # noqa: D102
    @property
    def call_us(self) -> float: ...  # noqa: D102
    @property
    def error(self) -> float: ...  # noqa: D102

    def formats(self, block: int) -> tuple[Format, ...]:
        """Formats that the block can run in."""

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """Predicted time of one block, microseconds."""

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """What the formats of an edge's two blocks cost together, microseconds."""

    def total_us(self, widths: Widths, formats: Sequence[Format]) -> float:
        """Predicted time of the model, microseconds."""

    def corrected(self, factor: float) -> Latency:
        """The same model with every time multiplied by ``factor``."""


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """Fitted coefficients of one network on one device.

    Attributes:
        geometries: of every block.
        edges: tensors between blocks.
        sizes: units of every group in the dense network, shape (groups,).
        lanes: channels in a vector register.
        theta: format -> microseconds per feature, shape (blocks, features); NaN where a block has no such format.
        switch_us: microseconds of a change between float and integers: constant, and per element.
        correction: factor on everything, learnt from whole-network measurements.
        error: median relative error over the networks that it was fitted on, as a fraction.
        call_us: always 0: what an inference takes besides its blocks is in their fitted times.
    """

    geometries: tuple[Geometry, ...]
    edges: tuple[Edge, ...]
    sizes: Widths
    lanes: int
    theta: Mapping[Format, NDArray[np.float64]]
    switch_us: tuple[float, float]
    correction: float = 1.0
    error: float = 0.0
    call_us: float = 0.0

    @property
    def block_groups(self) -> tuple[frozenset[int], ...]:
        """Per block, the groups whose widths its time depends on."""
        return tuple(g.groups for g in self.geometries)

    def formats(self, block: int) -> tuple[Format, ...]:
        """Formats that the block can run in."""
        return tuple(f for f, t in self.theta.items() if np.isfinite(t[block, 0]))

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """Predicted time of one block, microseconds, without switches."""
        features = self.geometries[block].features(widths, self.sizes, self.lanes)
        return float(self.correction * (self.theta[fmt][block] @ features))

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """Cost of handing a tensor over, microseconds: zero unless one side is float and the other integer."""
        if not switches(writer, reader):
            return 0.0
        dims = self.geometries[edge.writer].writes[edge.tensor]
        elements = float(np.prod([d.at(widths, self.sizes) for d in dims]))
        if not elements:
            return 0.0
        return self.correction * (self.switch_us[0] + self.switch_us[1] * elements)

    def total_us(self, widths: Widths, formats: Sequence[Format]) -> float:
        """Predicted time of the model, microseconds."""
        return sum_us(self, widths, formats)

    def corrected(self, factor: float) -> LatencyModel:
        """The same model with every time multiplied by ``factor``: how a measurement is fed back."""
        return replace(self, correction=self.correction * factor)


def sum_us(latency: Latency, widths: Widths, formats: Sequence[Format]) -> float:
    """Time of a network as a latency model of any kind sums it up: its blocks, the edges between them, and the call."""
    blocks = sum(latency.block_us(b, f, widths) for b, f in enumerate(formats))
    edges = sum(latency.edge_us(e, formats[e.writer], formats[e.reader], widths) for e in latency.edges)
    return blocks + edges + latency.call_us


def switches(writer: Format, reader: Format) -> bool:
    """Whether a tensor changes between float and integers; ``int8-core`` gives out both."""
    if writer == "int8-core":
        return False
    return (writer == "int8") != reader.startswith("int8")


def edges_of(
    geometries: Sequence[Geometry], writers: Sequence[Sequence[str]], readers: Sequence[Sequence[str]]
) -> tuple[Edge, ...]:
    """Edges between blocks, from the names of the values each one writes and reads."""
    home = {name: (b, t) for b, names in enumerate(writers) for t, name in enumerate(names)}
    return tuple(
        Edge(home[name][0], reader, home[name][1])
        for reader, names in enumerate(readers)
        for name in names
        if name in home and home[name][0] != reader
    )


def fit_theta(features: NDArray[np.float64], times_us: NDArray[np.float64]) -> NDArray[np.float64]:
    """Non-negative coefficients that minimise the squared *relative* error.

    Args:
        features: shape (samples, features).
        times_us: shape (samples,), positive.

    Returns:
        Shape (features,).
    """
    from scipy.optimize import nnls

    weighted = features / times_us[:, None]
    scale = np.maximum(np.abs(weighted).max(axis=0), 1e-30)
    # A pinch of ridge keeps collinear features (MACs and aligned MACs) from fighting over few samples.
    ridge = 1e-3 * np.eye(len(FEATURES))
    a = np.vstack([weighted / scale, ridge])
    theta, _ = nnls(a, np.concatenate([np.ones(len(times_us)), np.zeros(len(FEATURES))]))
    return np.asarray(theta / scale)
