"""The search problem for one network: the possible widths and formats, and the loss of each at the output."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.build import ModelBuilder
from edgeprune.calibration import FORMAT_SPLITS, WIDTH_TRIALS, ArrayCache, Arrays, Calibration, prices_of
from edgeprune.dependency import bypassed, droppable
from edgeprune.importance import STEP, Context, LateRankings, refit_widths, removed_at_once
from edgeprune.latency import Format, Latency, Network
from edgeprune.quantization import CALIBRATORS
from edgeprune.recovery import Probe
from edgeprune.search.local_refit import cut_and_refit
from edgeprune.search.sensitivity import THOROUGH, format_losses, tried_widths, width_losses
from edgeprune.search.solver import Problem
from edgeprune.support import Progress

SMALLEST_SHARE = 0.125
"""No group is cut below this share of its units, unless a residual connection bypasses it."""


Levels = tuple[NDArray[np.int64], ...]
"""Per group, its possible widths, ascending."""
WidthLosses = tuple[Levels, tuple[NDArray[np.float64], ...]]
"""The levels, and per group the loss of each level."""
FormatLosses = tuple[Mapping[Format, float], ...]
"""Per block, format -> loss."""


def uncut(levels: Levels, formats: FormatLosses, latency: Latency, twins: tuple[tuple[int, ...], ...] = ()) -> Problem:
    """The problem with dense widths, where only formats are chosen; see `Problem` for the twins."""
    return Problem(latency, *no_widths(levels), formats, twins)


def no_widths(levels: Levels) -> WidthLosses:
    """Only the dense widths, which have no loss."""
    return tuple(v[-1:] for v in levels), tuple(np.zeros(1) for _ in levels)


def levels_of(network: Network) -> tuple[NDArray[np.int64], ...]:
    """The possible widths of each group: multiples of its step, from an eighth of its size up.

    Inside a residual branch a single step is possible too, and 0, which drops the branch, if nothing else depends on
    it.
    """
    found = []
    around = bypassed(network.model, network.analysis.groups)
    ends = droppable(network.model, network.analysis.groups)
    for group, step in zip(network.analysis.groups, network.steps, strict=True):
        widths = np.arange(step, group.size + 1, step, dtype=np.int64)
        widths = widths[(widths >= SMALLEST_SHARE * group.size) | ((widths == step) & (group.id in around))]
        widths = widths if len(widths) and widths[-1] == group.size else np.append(widths, group.size)
        found.append(np.insert(widths, 0, 0) if group.id in ends else widths)
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Pricer:
    """Tries single widths and formats in a network and measures the output error of each; results are cached.

    Attributes:
        dense: the canonical model.
        network: its blocks.
        rankings: group id -> ranking; not needed for formats.
        data: calibration data.
        builder: quantizes.
        threads: of onnxruntime.
        progress: shows the steps.
        cache: losses and ranges of earlier runs.
        width_cache: losses of widths of earlier runs.
    """

    dense: ir.Model
    network: Network
    rankings: LateRankings
    data: Calibration
    builder: ModelBuilder
    threads: int
    progress: Progress
    cache: ArrayCache
    width_cache: ArrayCache

    @cached_property
    def _trials(self) -> _Trials:
        return _Trials(self.dense, self.network, self.rankings, self.data, self.builder, self.threads)

    def widths(self, levels: Levels) -> WidthLosses:
        """The loss of every width of every group."""
        if not levels:
            return no_widths(levels)
        len(self.rankings)  # computes them now if necessary: this is a step of its own
        with self.progress.step("pricing widths") as step:
            found = self._trials.widths(levels, self.width_cache, step.fraction)
        self.rankings.clear()
        return levels, found

    def formats(self, latency: Latency) -> FormatLosses:
        """The loss of every format that the latency model has for each block."""
        available = [latency.formats(b) for b in range(len(self.network.blocks))]
        with self.progress.step("pricing formats") as step:
            return self._trials.formats(available, self.cache, step.fraction)


def typical_ranges(
    dense: ir.Model, network: Network, data: Calibration, builder: ModelBuilder, cache: ArrayCache
) -> dict[str, tuple[float, float]]:
    """The range in the dense network of every activation that any format quantizes.

    The builder is told which calibrator chose each range.
    """
    names = builder.quantizable_values(dense)
    settings = {"names": names, "builder": builder.describe()}

    def compute() -> Arrays:
        found = builder.ranges(dense, names, data)
        return {
            "ranges": np.array([(found[n].low, found[n].high) for n in names]).reshape(-1, 2),
            "calibrators": np.array([CALIBRATORS.index(found[n].calibrator) for n in names], np.int64),
        }

    found = cache.arrays("ranges", settings, compute)
    builder.calibrators.update({n: CALIBRATORS[i] for n, i in zip(names, found["calibrators"], strict=True)})
    return {name: (float(low), float(high)) for name, (low, high) in zip(names, found["ranges"], strict=True)}


@dataclass(frozen=True, eq=False)
class _Trials:
    """Tries widths and formats, one at a time, in the dense network."""

    dense: ir.Model
    network: Network
    rankings: LateRankings
    data: Calibration
    builder: ModelBuilder
    threads: int

    @cached_property
    def probe(self) -> Probe:
        """Computes output errors on the samples for trials."""
        return Probe(self.dense, self.data, self.items, self.threads)

    @property
    def items(self) -> int:
        """How many samples a trial takes."""
        return min(prices_of(self.data.outputs).of(self.network.macs), self.data.items)

    def widths(
        self, levels: tuple[NDArray[np.int64], ...], cache: ArrayCache, progress: Callable[[float], None]
    ) -> tuple[NDArray[np.float64], ...]:
        """Per group, the loss of each of its levels."""
        groups = self.network.analysis.groups
        orders = [hashlib.sha256(r.order.tobytes()).hexdigest() for r in self.rankings.values()]
        one = WIDTH_TRIALS.of(self.items * self.network.macs * len(groups)) == 1
        tried = [
            tried_widths(g.size, v, refit_widths(g.size, removed_at_once(g.size, STEP)), one=one and i % THOROUGH > 0)
            for i, (g, v) in enumerate(zip(groups, levels, strict=True))
        ]

        def compute() -> Arrays:
            measured = {str(g): errors for g, errors in enumerate(self._try_widths(tried, progress))}
            self.probe.forget()
            return measured

        # Not by levels: other targets have others, but the same trials.
        found = cache.arrays("width trials", {"tried": tried, "orders": orders}, compute)
        measured = [dict(zip(widths, found[str(g)].tolist(), strict=True)) for g, widths in enumerate(tried)]
        return width_losses(groups, levels, measured, {g: r.loss for g, r in self.rankings.items()})

    def formats(
        self, available: Sequence[Sequence[Format]], cache: ArrayCache, progress: Callable[[float], None]
    ) -> tuple[dict[Format, float], ...]:
        """Per block, the loss of each of its formats."""
        if not any(len(f) > 1 for f in available):
            return tuple({self.builder.float_format: 0.0} for _ in available)
        splits = FORMAT_SPLITS.of(2 * self.items * self.network.macs)
        settings = {"available": [list(f) for f in available], "builder": self.builder.describe(), "splits": splits}
        # Also where the losses are cached: the builder must know the calibrators either way.
        ranges = typical_ranges(self.dense, self.network, self.data, self.builder, cache)

        def compute() -> Arrays:
            losses = self._try_formats(available, ranges, splits, progress)
            self.probe.forget()
            return {f"{b} {name}": np.array(v) for b, forms in enumerate(losses) for name, v in forms.items()}

        found = cache.arrays("format losses", settings, compute)
        return tuple({name: float(found[f"{b} {name}"]) for name in forms} for b, forms in enumerate(available))

    def _try_widths(
        self, tried: Sequence[Sequence[int]], progress: Callable[[float], None]
    ) -> Iterator[NDArray[np.float64]]:
        """Per group, the output errors of the network with this group alone cut to each width."""
        analysis = self.network.analysis
        context = Context(self.dense, analysis.groups, self.data)
        for g, (group, widths) in enumerate(zip(analysis.groups, tried, strict=True)):
            order, refits = self.rankings[group.id].order, self.rankings.refits().get(group.id)
            errors = [
                self.probe.error(cut_and_refit(context, analysis, group, np.sort(order[group.size - w :]), refits))
                for w in widths
            ]
            yield np.array(errors, np.float64)
            progress((g + 1) / len(tried))

    def _try_formats(
        self,
        available: Sequence[Sequence[Format]],
        ranges: Mapping[str, tuple[float, float]],
        splits: int,
        progress: Callable[[float], None],
    ) -> tuple[dict[Format, float], ...]:
        builder = self.builder

        def trial(chosen: Mapping[int, Format]) -> float:
            formats = [chosen.get(b, builder.float_format) for b in range(len(available))]
            int8 = builder.int8_nodes(self.dense, formats)
            return self.probe.error(builder.quantized(self.dense, int8, ranges))

        return format_losses(available, builder.float_format, trial, progress, self.network.twins, splits)
