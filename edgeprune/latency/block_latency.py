"""Latency of a whole model as the sum over its blocks, for any widths and any format of each block.

    T(w, f) = correction * ( sum_b  theta[b, f_b] . features_b(w)  +  switches )

A switch is a tensor that passes from a float block to an INT8 block or back: it costs a + c * elements. ``theta`` is
non-negative (Lawson & Hanson 1974), so the predicted latency never rises if an aligned width shrinks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Widths
from edgeprune.latency.features import FEATURES, Geometry

Format = str
"""``fp32`` or ``fp16``: all nodes in float; ``int8``: all nodes in INT8 that can be; ``int8-core``: only the weighted
node in INT8."""

Model = TypeVar("Model", bound=Any)


@dataclass(frozen=True, eq=False)
class Edge:
    """Tensor number ``tensor`` of the outputs of block ``writer``, which block ``reader`` reads."""

    writer: int
    reader: int
    tensor: int


class Latency(Protocol):
    """The interface of a latency model, measured or analytic.

    Attributes:
        edges: pairs of blocks whose formats together cost latency.
        sizes: units of every group in the dense network, shape (groups,).
        block_groups: per block, the groups whose widths its latency depends on.
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
        """Predicted latency of one block, microseconds."""

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """Latency that the formats of an edge's two blocks cost together, microseconds."""

    def total_us(self, widths: Widths, formats: Sequence[Format]) -> float:
        """Predicted latency of the model, microseconds."""

    def corrected(self, factor: float) -> Latency:
        """The same model with every latency multiplied by ``factor``."""


def sum_us(latency: Latency, widths: Widths, formats: Sequence[Format]) -> float:
    """Predicted latency of a model, microseconds: its blocks, the edges between them, and the call."""
    blocks = sum(latency.block_us(b, f, widths) for b, f in enumerate(formats))
    edges = sum(latency.edge_us(e, formats[e.writer], formats[e.reader], widths) for e in latency.edges)
    return blocks + edges + latency.call_us


def rescaled(latency: Model, factor: float) -> Model:
    """The same latency model with every latency multiplied by ``factor``, for example after a measurement."""
    scaled: Model = replace(latency, correction=latency.correction * factor)
    return scaled


@dataclass(frozen=True, eq=False)
class LatencyModel:
    """Fitted coefficients of one network on one device.

    Attributes:
        geometries: geometry of every block.
        edges: tensors between blocks.
        sizes: units of every group in the dense network, shape (groups,).
        lanes: channels in a vector register.
        theta: format -> microseconds per feature, shape (blocks, features); NaN if a block does not have the format.
        switch_us: microseconds of a conversion between float and INT8: constant, and per element.
        correction: factor of all latencies, from measurements of whole networks.
        error: median relative error over the networks that it was fitted on, as a fraction.
        call_us: always 0: the fitted block latencies include the call.
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
        """Per block, the groups whose widths its latency depends on."""
        return tuple(g.groups for g in self.geometries)

    total_us = sum_us
    corrected = rescaled

    def formats(self, block: int) -> tuple[Format, ...]:
        """Formats that the block can run in."""
        return tuple(f for f, t in self.theta.items() if np.isfinite(t[block, 0]))

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """Predicted latency of one block, microseconds, without switches."""
        features = self.geometries[block].features(widths, self.sizes, self.lanes)
        return float(self.correction * (self.theta[fmt][block] @ features))

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """Latency of the conversion of a tensor, microseconds: 0 unless one side is float and the other INT8."""
        if not switches(writer, reader):
            return 0.0
        dims = self.geometries[edge.writer].writes[edge.tensor]
        elements = float(np.prod([d.at(widths, self.sizes) for d in dims]))
        if not elements:
            return 0.0
        return self.correction * (self.switch_us[0] + self.switch_us[1] * elements)


def switches(writer: Format, reader: Format) -> bool:
    """Whether a tensor is converted between float and INT8; a block in ``int8-core`` has both outputs."""
    if writer == "int8-core":
        return False
    return (writer == "int8") != reader.startswith("int8")


def edges_of(writers: Sequence[Sequence[str]], readers: Sequence[Sequence[str]]) -> tuple[Edge, ...]:
    """Edges between blocks, from the names of the values that each block writes and reads."""
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
    # A small ridge keeps collinear features (MACs and aligned MACs) stable with few samples.
    ridge = 1e-3 * np.eye(len(FEATURES))
    a = np.vstack([weighted / scale, ridge])
    theta, _ = nnls(a, np.concatenate([np.ones(len(times_us)), np.zeros(len(FEATURES))]))
    return np.asarray(theta / scale)
