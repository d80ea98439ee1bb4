"""The search's problem for one network: which widths and formats there are, and what each costs at the output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.builder import Builder
from edgeprune.calibrate import Calibration
from edgeprune.cpumodel import Network, channel_step
from edgeprune.groups import Group, Ranking
from edgeprune.importance.context import Context
from edgeprune.latency import Format, Latency
from edgeprune.localfit import cut_and_refit, waves
from edgeprune.outputerror import Probe
from edgeprune.progress import Progress
from edgeprune.ridge import Moments
from edgeprune.search import Problem
from edgeprune.sensitivity import format_losses, width_losses
from edgeprune.solve import Analysis

PROBE_MACS = 8e9
PROBE_ITEMS = (24, 256)
"""Single choices are tried on as many samples as this much work allows, within these bounds."""

SMALLEST_SHARE = 0.125
"""No group is cut below this share of its units."""


@dataclass(frozen=True, eq=False)
class Pricing:
    """Losses of all choices.

    Attributes:
        levels: per group, widths to choose from.
        width_loss: per group, loss of each width.
        format_loss: per block, format -> loss.
    """

    levels: tuple[NDArray[np.int64], ...]
    width_loss: tuple[NDArray[np.float64], ...]
    format_loss: tuple[Mapping[Format, float], ...]

    def problem(self, latency: Latency) -> Problem:
        """The problem with these losses and a latency model."""
        return Problem(latency, self.levels, self.width_loss, self.format_loss)


def levels_of(network: Network) -> tuple[NDArray[np.int64], ...]:
    """Widths that each group may take: multiples of its step, from an eighth of it up."""
    found = []
    for group in network.analysis.groups:
        step = channel_step(group)
        widths = np.arange(step, group.size + 1, step, dtype=np.int64)
        widths = widths[widths >= SMALLEST_SHARE * group.size]
        found.append(widths if len(widths) and widths[-1] == group.size else np.append(widths, group.size))
    return tuple(found)


def probe_items(network: Network) -> int:
    """How many samples single choices are tried on."""
    return int(np.clip(PROBE_MACS / max(network.macs, 1), *PROBE_ITEMS))


def price(
    dense: ir.Model,
    network: Network,
    rankings: Mapping[str, Ranking],
    data: Calibration,
    builder: Builder,
    latency: Latency,
    *,
    prunable: bool,
    threads: int,
    progress: Progress,
    levels: tuple[NDArray[np.int64], ...] | None = None,
) -> Pricing:
    """Try single choices in the network and see what they change at its output.

    ``levels`` are the widths of every group to choose from; by default those of `levels_of`.
    """
    probe = Probe(dense, data, probe_items(network), threads)
    levels = levels_of(network) if levels is None else levels
    if prunable and levels:
        with progress.step("pricing widths") as step:
            losses = _width_losses(dense, network, rankings, data, levels, probe, step.fraction)
    else:
        levels = tuple(v[-1:] for v in levels)
        losses = tuple(np.zeros(1) for _ in levels)
    with progress.step("pricing formats") as step:
        priced = _format_losses(dense, network, data, builder, latency, probe, step.fraction)
    return Pricing(levels, losses, priced)


def _width_losses(
    dense: ir.Model,
    network: Network,
    rankings: Mapping[str, Ranking],
    data: Calibration,
    levels: tuple[NDArray[np.int64], ...],
    probe: Probe,
    progress: Callable[[float], None],
) -> tuple[NDArray[np.float64], ...]:
    analysis = network.analysis
    context = Context(dense, analysis.groups, data)
    position = {g.id: i for i, g in enumerate(analysis.groups)}
    losses: list[NDArray[np.float64]] = [np.zeros(len(v)) for v in levels]
    done = 0
    for wave, moments in waves(context):
        trial = partial(_width_trial, context, analysis, wave, rankings, moments, probe)
        curves = {g.id: rankings[g.id].loss for g in wave}
        mine = [levels[position[g.id]] for g in wave]
        for group, loss in zip(wave, width_losses(wave, mine, curves, trial), strict=True):
            losses[position[group.id]] = loss
        done += len(wave)
        progress(done / len(levels))
    return tuple(losses)


def _width_trial(
    context: Context,
    analysis: Analysis,
    wave: Sequence[Group],
    rankings: Mapping[str, Ranking],
    moments: Mapping[str, Moments],
    probe: Probe,
    index: int,
    width: int,
) -> float:
    """Output error of the network with one group of the wave cut to a width."""
    group = wave[index]
    kept = np.sort(rankings[group.id].order[group.size - width :])
    return probe.error(cut_and_refit(context, analysis, group, kept, moments))


def _format_losses(
    dense: ir.Model,
    network: Network,
    data: Calibration,
    builder: Builder,
    latency: Latency,
    probe: Probe,
    progress: Callable[[float], None],
) -> tuple[dict[Format, float], ...]:
    available = [latency.formats(b) for b in range(len(network.blocks))]
    every = {n for forms in network.integer_nodes for nodes in forms.values() for n in nodes}
    if not any(len(f) > 1 for f in available):
        return tuple({builder.float_format: 0.0} for _ in available)
    names = {str(o.name) for n in dense.graph if n.name in every for o in n.outputs}
    names |= set(builder.values_to_quantize(dense, every))
    bounds = builder.bounds(dense, sorted(names), data.subset(probe_items(network)))

    def trial(chosen: Mapping[int, Format]) -> float:
        formats = [chosen.get(b, builder.float_format) for b in range(len(available))]
        return probe.error(builder.quantized(dense, builder.integer_nodes(dense, formats), bounds))

    return format_losses(available, builder.float_format, trial, progress)
