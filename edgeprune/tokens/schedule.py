"""A token schedule, and an opened model in which it was carried out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeprune import graph
from edgeprune.dependency import OpenedModel, analyse
from edgeprune.passes.tokens import SETTINGS, Site, TokenStep, reduce_tokens

ALLOWED = ("auto", "none", *SETTINGS)
"""The values of ``--tokens``."""


@dataclass(frozen=True)
class TokenSchedule:
    """How many tokens leave at which sites, and how.

    Attributes:
        setting: name of a setting of `edgeprune.passes.tokens`.
        sites: where tokens leave, in the order of the graph.
        leave: how many leave at each.
    """

    setting: str
    sites: tuple[Site, ...]
    leave: tuple[int, ...]

    @property
    def steps(self) -> list[TokenStep]:
        """For the pass."""
        return [TokenStep(site.value, count) for site, count in zip(self.sites, self.leave, strict=True)]

    @property
    def stay(self) -> int:
        """How many tokens stay at the end."""
        return self.sites[0].tokens - sum(self.leave)

    def __str__(self) -> str:
        counts = ", ".join(f"{n} at {site.node}" for site, n in zip(self.sites, self.leave, strict=True))
        return f"{self.setting}: of {self.sites[0].tokens} tokens leave {counts}"


def with_fewer_tokens(opened: OpenedModel, schedule: TokenSchedule, sites: Sequence[Site]) -> OpenedModel:
    """The opened model after a schedule: everything that refers to its graph is made again.

    Args:
        opened: with all tokens.
        schedule: what leaves.
        sites: all sites of the model.

    Raises:
        PassError: the schedule does not fit the model.
    """
    setting = SETTINGS[schedule.setting]
    dense = reduce_tokens(opened.dense, schedule.steps, setting, sites)
    fixed = graph.infer_shapes(graph.clone(dense), opened.sizes.shapes)
    return replace(opened, dense=dense, fixed=fixed, analysis=analyse(fixed if opened.at_sizes else dense))
