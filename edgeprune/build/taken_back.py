"""Variants of a network with one thing taken back, to find what its loss comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.latency import SPARSE, Format, dense_format, is_int8, is_sparse, rank_of, whole_format

Widths = NDArray[np.int64]

SINGLE = 4
"""So many groups, and so many layers, are taken back one at a time: those of the largest predicted loss."""


@dataclass(frozen=True)
class TakenBack:
    """Widths and formats of a network with one thing taken back: ``kind`` is ``lever``, ``group`` or ``layer``."""

    name: str
    kind: str
    widths: Widths
    formats: tuple[Format, ...]


def levers(widths: Widths, formats: Sequence[Format], sizes: Widths, floating: Format) -> Iterator[TakenBack]:
    """One lever taken back everywhere: pruning, INT8, 2:4, low rank. Only levers that were used.

    Args:
        widths: of the result, per group.
        formats: of the result, per block.
        sizes: widths of the dense network.
        floating: the format of a float block.
    """
    if (widths < sizes).any():
        yield TakenBack("pruning", "lever", sizes.copy(), tuple(formats))
    if any(map(is_int8, formats)):
        yield TakenBack("INT8", "lever", widths, tuple(floating if is_int8(f) else f for f in formats))
    if any(map(is_sparse, formats)):
        yield TakenBack("2:4", "lever", widths, tuple(f.removesuffix(SPARSE) for f in formats))
    if any(map(rank_of, formats)):
        yield TakenBack("low rank", "lever", widths, tuple(map(whole_format, formats)))


def single(
    widths: Widths,
    formats: Sequence[Format],
    sizes: Widths,
    floating: Format,
    group_losses: NDArray[np.float64],
    format_losses: NDArray[np.float64],
    names: tuple[Sequence[str], Sequence[str]],
) -> Iterator[TakenBack]:
    """One group, or one layer in INT8 or of low rank, taken back at a time, those of the largest predicted loss.

    Args:
        widths: of the result, per group.
        formats: of the result, per block.
        sizes: widths of the dense network.
        floating: the format of a float block.
        group_losses: predicted loss of each group's width.
        format_losses: predicted loss of each block's format.
        names: of the groups, and of the blocks.
    """
    for g in _largest(np.where(widths < sizes, group_losses, 0.0)):
        whole = widths.copy()
        whole[g] = sizes[g]
        yield TakenBack(names[0][g], "group", whole, tuple(formats))
    quantized = np.array([dense_format(f) != floating or rank_of(f) > 0 for f in formats])
    for b in _largest(np.where(quantized, format_losses, 0.0)):
        kept = tuple(floating if k == b else f for k, f in enumerate(formats))
        yield TakenBack(names[1][b], "layer", widths, kept)


def _largest(losses: NDArray[np.float64]) -> list[int]:
    return [int(k) for k in np.argsort(-losses, kind="stable")[:SINGLE] if losses[k] > 0]
