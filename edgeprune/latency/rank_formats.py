"""Formats in which a layer runs as two of low rank, and the latency of a network in which some layers do.

``int8+r64`` is ``int8`` for both layers, with 64 values between them. A layer has such a format where its two kernels
are predicted to be faster than its one. Their latency is that of the one kernel, times a ratio: so what a device
measured of the kernel, and every later correction, holds for the two as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from edgeprune.dependency import Widths
from edgeprune.latency.block_latency import Edge, Format, Latency, sum_us

_MARK = "+r"


def with_rank(fmt: Format, rank: int) -> Format:
    """The format in which a layer of this format is two, with ``rank`` values between them."""
    return f"{fmt}{_MARK}{rank}"


def rank_of(fmt: Format) -> int:
    """The rank of a format; 0 if the layer is one."""
    _, mark, rank = fmt.rpartition(_MARK)
    return int(rank) if mark else 0


def whole_format(fmt: Format) -> Format:
    """The format of the two layers, which is that of the one layer without its rank."""
    return fmt.rpartition(_MARK)[0] if rank_of(fmt) else fmt


class PairPrices(Protocol):
    """What two layers take in place of one."""

    def ratio(self, block: int, fmt: Format, rank: int, widths: Widths) -> float:
        """Latency of the block with two layers of this rank, over its latency with one, both in one format."""


@dataclass(frozen=True, eq=False)
class RankedLatency:
    """A latency model whose blocks have formats of low rank, too.

    Attributes:
        base: of the network in all other formats.
        prices: of two layers in place of one.
        ranked: block -> its formats of low rank.
    """

    base: Latency
    prices: PairPrices
    ranked: Mapping[int, tuple[Format, ...]]
    _ratios: dict[tuple[object, ...], float] = field(default_factory=dict, repr=False)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Pairs of blocks whose formats together cost latency."""
        return self.base.edges

    @property
    def sizes(self) -> Widths:
        """Units of every group in the dense network, shape (groups,)."""
        return self.base.sizes

    @property
    def block_groups(self) -> tuple[frozenset[int], ...]:
        """Per block, the groups whose widths its latency depends on."""
        return self.base.block_groups

    @property
    def call_us(self) -> float:
        """Microseconds of an inference besides its blocks and edges."""
        return self.base.call_us

    @property
    def error(self) -> float:
        """Typical relative error, as a fraction."""
        return self.base.error

    total_us = sum_us

    def corrected(self, factor: float) -> RankedLatency:
        """The same model with every latency multiplied by ``factor``."""
        return replace(self, base=self.base.corrected(factor))

    def formats(self, block: int) -> tuple[Format, ...]:
        """Formats that the block can run in, those of low rank last."""
        return (*self.base.formats(block), *self.ranked.get(block, ()))

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """Predicted latency of one block, microseconds."""
        rank, whole = rank_of(fmt), whole_format(fmt)
        us = self.base.block_us(block, whole, widths)
        if not rank or not us:
            return us
        key = (block, fmt, *(int(widths[g]) for g in sorted(self.base.block_groups[block])))
        if key not in self._ratios:
            self._ratios[key] = self.prices.ratio(block, whole, rank, widths)
        return self._ratios[key] * us

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """Latency that the formats of an edge's two blocks cost together, microseconds."""
        return self.base.edge_us(edge, whole_format(writer), whole_format(reader), widths)
