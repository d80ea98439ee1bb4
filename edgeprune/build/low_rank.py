"""Layers of low rank in the model of a candidate: what a format with a rank asks for, carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune.calibration import COVARIANCES, Calibration
from edgeprune.costmodel import Block
from edgeprune.latency import Format, factored_for_timing, ranks_in
from edgeprune.passes.rank import factor_layers, fold_factors, principals

KEPT_MODELS = 4


@dataclass(frozen=True, eq=False)
class LowRank:
    """Makes layers of low rank in models of one network; the last few models are kept.

    Attributes:
        blocks: of the network.
        data: samples; None for timing alone, where any factors will do.
        macs: multiply-accumulates of the dense network.
        threads: of onnxruntime.
    """

    blocks: Sequence[Block]
    data: Calibration | None
    macs: int
    threads: int
    _made: dict[tuple[ir.Model, tuple[tuple[str, int], ...]], ir.Model] = field(default_factory=dict, repr=False)

    def ranks(self, model: ir.Model, formats: Sequence[Format]) -> dict[str, int]:
        """Node -> its rank in these formats, for the layers of the model that become two."""
        return ranks_in(model, self.blocks, formats)

    def factored(self, model: ir.Model, formats: Sequence[Format]) -> ir.Model:
        """The float model with two layers in place of each of low rank; one, if a linear layer before takes the first.

        The model itself if no layer is of low rank.
        """
        ranks = self.ranks(model, formats)
        if not ranks or self.data is None:
            return factored_for_timing(model, self.blocks, formats)
        key = model, tuple(ranks.items())
        if key not in self._made:
            while len(self._made) >= KEPT_MODELS:
                self._made.pop(next(iter(self._made)))
            few = self.data.subset(COVARIANCES.of(self.macs))
            found = principals(model, list(ranks), few, self.threads)
            split = factor_layers(model, {name: p.factors(ranks[name]) for name, p in found})
            fold_factors(split, list(ranks))
            self._made[key] = split
        return self._made[key]
