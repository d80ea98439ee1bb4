"""The losses of formats of low rank, in the currency of all others; they are computed once and cached."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.build import ModelBuilder
from edgeprune.calibration import ArrayCache, Arrays, Calibration
from edgeprune.latency import Network, rank_of, whole_format
from edgeprune.ranks.candidates import Ranked
from edgeprune.ranks.losses import rank_losses
from edgeprune.search import FormatLosses
from edgeprune.support import Progress


@dataclass(frozen=True, eq=False)
class RankPricer:
    """Prices low rank in a network.

    Attributes:
        found: the blocks that may be of low rank.
        network: all blocks.
        builder: of the network.
        data: samples.
        progress: shows the step.
        cache: losses of earlier runs.
    """

    found: Ranked
    network: Network
    builder: ModelBuilder
    data: Calibration
    progress: Progress
    cache: ArrayCache

    def with_ranks(self, losses: FormatLosses) -> FormatLosses:
        """The losses with those of low rank: the loss of the rank and of the format of both layers together."""
        layers, ranks = self.found.layers, self.found.ranks

        def compute() -> Arrays:
            with self.progress.step("pricing ranks") as step:
                own = rank_losses(self.network, self.builder, self.data, layers, ranks, step.fraction)
            return {f"{b} {r}": np.array(loss) for b, of in own.items() for r, loss in of.items()}

        settings = {
            "layers": {str(b): n for b, n in layers.items()},
            "ranks": {str(b): list(r) for b, r in ranks.items()},
        }
        own = self.cache.arrays("rank losses", settings, compute)
        return tuple(
            dict(of)
            | {
                f: of[whole_format(f)] + float(own[f"{b} {rank_of(f)}"])
                for f in self.found.latency.ranked.get(b, ())
                if whole_format(f) in of and f"{b} {rank_of(f)}" in own
            }
            for b, of in enumerate(losses)
        )
