"""What each lever of a compile saves on a target, and all of them together, by the target's profile.

    python benchmarks/levers.py NET.onnx [NET.onnx ...] [--targets orin orin-nano-8] [--keep 0.75] [--drop 0.25]

Prints a Markdown table of predicted milliseconds. Every lever is pulled by a fixed amount, without regard to its loss:
INT8 wherever it is faster; one token step after a third of the attentions, by the fastest setting; every fourth branch
that can be dropped; every linear layer at a quarter of its full rank, where two such kernels are faster; every group at
three quarters of its width. So the table says what a lever can save, not what a
compile chooses. Weights do not matter: a skeleton with random ones gives the same table.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgeprune.dependency import OpenedModel, Widths, droppable, open_model
from edgeprune.devices import Profile, load_profile
from edgeprune.graph import Refused
from edgeprune.latency import INT8, GpuNetwork, KernelPairs, gpu_network, rank_of, whole_format
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.tokens import SETTINGS, token_sites
from edgeprune.ranks import Ranked, ranked
from edgeprune.search import fastest, uncut
from edgeprune.support import Progress
from edgeprune.tokens import predicted_shares, schedules, with_fewer_tokens

FP16 = "fp16"
COLUMNS = ("FP16", "INT8", "tokens", "depth", "rank", "widths", "all, FP16", "all, INT8")
RANK_STEP, RANK_SHARE = 32, 0.25


@dataclass(frozen=True, eq=False)
class Priced:
    """A network on a target: its kernels, and the widths of the levers."""

    gpu: GpuNetwork
    narrow: Widths
    shallow: Widths
    branches: int
    dropped: int
    low_rank: Ranked | None

    def ranked_ms(self) -> float | None:
        """In FP16 with layers of low rank; None where none is faster."""
        if self.low_rank is None:
            return None
        formats = [FP16] * len(self.gpu.network.blocks)
        for block, options in self.low_rank.latency.ranked.items():
            whole = self.gpu.latency.kernel(block, self.gpu.latency.sizes)
            wanted = RANK_SHARE * min(whole.cin, whole.cout)
            own = [f for f in options if whole_format(f) == FP16 and rank_of(f) >= wanted]
            formats[block] = min(own, key=rank_of, default=FP16)
        return self.low_rank.latency.total_us(self.gpu.latency.sizes, formats) / 1e3

    def ms(self, widths: Widths) -> float:
        """In FP16 at these widths."""
        return self.gpu.latency.total_us(widths, [FP16] * len(self.gpu.network.blocks)) / 1e3

    def int8_ms(self, widths: Widths) -> float:
        """At these widths, every kernel in INT8 or FP16, whatever makes the network faster."""
        free = tuple(dict.fromkeys(self.gpu.latency.formats(b), 0.0) for b in range(len(self.gpu.network.blocks)))
        return fastest(uncut(tuple(np.array([w]) for w in widths), free, self.gpu.latency)).latency_us / 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--targets", nargs="+", default=["orin", "orin-nano-8"])
    parser.add_argument("--keep", type=float, default=0.75, help="share of the width of every group")
    parser.add_argument("--drop", type=float, default=0.25, help="share of the branches that can be dropped")
    arguments = parser.parse_args()
    print(f"| network | target | {' | '.join(COLUMNS)} | what left |")
    print("|---|---|" + "---:|" * len(COLUMNS) + "---|")
    for path in arguments.models:
        opened = open_model(path, {}, Progress())
        for name in arguments.targets:
            profile = load_profile(name)
            whole = _priced(opened, profile, arguments.keep, arguments.drop)
            fewer, tokens = _fewer_tokens(opened, profile)
            few = whole if fewer is None else _priced(fewer, profile, arguments.keep, arguments.drop)
            sizes, both = whole.gpu.latency.sizes, np.minimum(few.narrow, few.shallow)
            row = (
                whole.ms(sizes),
                whole.int8_ms(sizes),
                None if fewer is None else few.ms(few.gpu.latency.sizes),
                whole.ms(whole.shallow) if whole.dropped else None,
                whole.ranked_ms(),
                whole.ms(whole.narrow),
                few.ms(both),
                few.int8_ms(both),
            )
            cells = " | ".join("-" if ms is None else f"{ms:.2f}" for ms in row)
            print(
                f"| {path.stem} | {name} | {cells} | {tokens}; {whole.dropped} of {whole.branches} branches |",
                flush=True,
            )


def _priced(opened: OpenedModel, profile: Profile, keep: float, drop: float) -> Priced:
    fixed = canonicalize(opened.fixed, verify=False)
    groups = opened.analysis.groups
    branches = droppable(opened.dense, groups)
    step = profile.channel_step(FP16)
    gpu = gpu_network(fixed, opened.analysis, profile.device(), (FP16, INT8), step=step, error=0.0, branches=branches)
    sizes = gpu.latency.sizes
    levels = [int(np.flatnonzero(v >= keep * v[-1])[0]) for v in gpu.levels]
    narrow = np.array([v[i] for v, i in zip(gpu.levels, levels, strict=True)], np.int64)
    places = {str(n.name): i for i, n in enumerate(fixed.graph)}
    inside = [i for i, g in enumerate(groups) if g.id in branches]
    inside.sort(key=lambda i: places[branches[groups[i].id].end])
    every = max(1, round(1 / drop)) if drop > 0 else len(inside) + 1
    chosen = inside[every - 1 :: every]
    shallow = sizes.copy()
    shallow[chosen] = 0
    low = ranked(gpu.latency, gpu.network, opened.dense, partial(KernelPairs, gpu.latency), RANK_STEP)
    return Priced(gpu, narrow, shallow, len(inside), len(chosen), low)


def _fewer_tokens(opened: OpenedModel, profile: Profile) -> tuple[OpenedModel | None, str]:
    """The network after the fastest single step that begins after a third of the attentions, and what it does."""
    sites = token_sites(opened.dense)
    if isinstance(sites, Refused):
        return None, "all tokens stay"
    place = max(s.attentions for s in sites) / 3
    single = [s for s in schedules(sites, list(SETTINGS)) if len(s.sites) == 1]
    nearest = min((abs(s.sites[0].attentions - place) for s in single), default=0.0)
    tried = [s for s in single if abs(s.sites[0].attentions - place) == nearest]
    models = [with_fewer_tokens(opened, s, sites) for s in tried]
    shares = predicted_shares(opened.fixed, [m.fixed for m in models], profile, None, int8=False)
    if not shares:
        return None, "all tokens stay"
    best = int(np.argmin(shares))
    return models[best], f"{sum(tried[best].leave)} of {sites[0].tokens} tokens ({tried[best].setting})"


if __name__ == "__main__":
    main()
