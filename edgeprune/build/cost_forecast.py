"""What a compile will take, said before its long steps start: processor time, memory and temporary files.

All of it follows from the graph: multiply-accumulates, sizes of activations and layers, groups, and the numbers of
samples of `edgeprune.calibration.sample_counts`. The unit of time is one sample through the original, which has been
measured on this machine by then. So no model or machine has seconds of its own here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgeprune import graph
from edgeprune.calibration import (
    BIASES,
    COMPENSATION,
    COVARIANCES,
    FORMAT_SPLITS,
    RANGE_ROWS,
    RANGE_TRIALS,
    RANGES,
    TOKEN_TRIALS,
    WIDTH_TRIALS,
    Calibration,
    prices_of,
)
from edgeprune.dependency import OpenedModel
from edgeprune.graph import Linear, find_linears, static_shape
from edgeprune.importance import (
    DOUBLE_PRECISION_FEATURES,
    GRAM_BYTES,
    GRAM_SHARE,
    MOST_FEATURES,
    STEP,
    Context,
    refit_widths,
    removed_at_once,
)
from edgeprune.latency import Network
from edgeprune.passes.rank import SAMPLING as RANK_ROWS
from edgeprune.passes.recover import SPOOL_BYTES, ReconstructSettings
from edgeprune.recovery import Sampling
from edgeprune.report import Cost
from edgeprune.support import usual_s

SIMULATED = 1.6
"""Time of a model with simulated precisions over that of the float model."""
SUFFIX = 0.55
"""Share of the network that a trial of one change computes again."""
CANDIDATES = 3
"""Unpruned variants that are built and scored."""
KEPT = 0.6
"""Share of the network that stays after a cut."""
BLAS_MACS_PER_S = 2.5e10
"""Multiply-accumulates of matrix products in a second of one core, float32 and float64 mixed."""
NODE_S = 4e-4
"""Seconds for each node to make a changed copy of a network and to load it."""
BUILD_COPIES = 8
"""Such copies whose time a network takes to be built."""
BASE_BYTES = 200 << 20
"""Memory of the interpreter with its libraries."""
CACHED_BYTES = 450 << 20
"""Memory of cached activations and outputs, of batches and of onnxruntime's arenas."""


@dataclass(frozen=True)
class ExpectedCost:
    """The cost in all, and the processor seconds of the long steps."""

    cost: Cost
    steps: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        minutes = self.cost.processor_s / 60
        time = f"{minutes:.0f} min" if minutes >= 1.5 else f"{10 * np.ceil(self.cost.processor_s / 10):.0f} s"
        memory, disk = self.cost.memory_bytes / 1e9, self.cost.temporary_bytes / 1e9
        files = f", {disk:.1f} GB of temporary files" if disk >= 0.05 else ""
        return f"about {time} of processor time, {memory:.1f} GB of memory{files}"


def expected_cost(
    opened: OpenedModel,
    network: Network,
    fit: Calibration,
    held_out: int,
    *,
    sample_s: float,
    spent_s: float,
    quantized: bool,
    cut: bool,
    measured: bool,
    sparse: int = 0,
    low_rank: Collection[str] = (),
    streams: int = 0,
) -> ExpectedCost:
    """The expected cost of a compile.

    Args:
        opened: the model.
        network: its blocks.
        fit: the samples for the search, the refit and the quantization.
        held_out: how many samples score a result.
        sample_s: processor seconds of one sample through the original.
        spent_s: processor seconds so far.
        quantized: whether blocks may run in INT8.
        cut: whether widths must be priced.
        measured: whether candidates are measured on this processor.
        sparse: how many blocks have 2:4 weights priced.
        low_rank: nodes that may become two of low rank.
        streams: how many narrower residual streams may be tried.
    """
    one, weights = sample_s, graph.weight_bytes(opened.dense)
    activations = _activation_bytes(opened)

    def items(count: int) -> int:
        return min(count, fit.items)

    probed = items(prices_of(fit.outputs).of(network.macs))
    copy = NODE_S * len(network.model.graph)
    steps = {"scoring the result": SIMULATED * held_out * one, "verifying the cut": 16 * one}
    if quantized:
        splits = FORMAT_SPLITS.of(2 * probed * network.macs)
        trials = min(2 * splits + 1, 2 * sum(len(forms) > 1 for forms in network.int8_nodes))
        ranged, rows = items(RANGES.of(network.macs)), items(RANGE_ROWS.of(network.macs))
        tried = 7 * items(RANGE_TRIALS.of(network.macs))
        steps["pricing formats"] = one * (
            1.5 * ranged + rows + SIMULATED * tried + SIMULATED * SUFFIX * trials * probed
        ) + copy * (trials + 7)
        steps["finding the best unpruned variant"] = CANDIDATES * (SIMULATED * held_out * one + BUILD_COPIES * copy)
        if not fit.is_random:
            steps["finding the best unpruned variant"] += CANDIDATES * items(BIASES.of(network.macs)) * one
    if sparse:
        trials = min(2 * FORMAT_SPLITS.of(2 * probed * network.macs) + 1, 2 * sparse)
        steps["pricing 2:4 weights"] = trials * (SUFFIX * probed * one + copy)
        if not fit.is_random:
            steps["pricing 2:4 weights"] += fit.items * one + _sparsify_macs(opened) / BLAS_MACS_PER_S
    if low_rank:
        trials = min(2 * FORMAT_SPLITS.of(2 * probed * network.macs) + 1, 2 * len(low_rank))
        steps["pricing ranks"] = one * (items(COVARIANCES.of(network.macs)) + SUFFIX * trials * probed) + copy * trials
        steps["pricing ranks"] += _rank_macs([find_linears(opened.dense)[name] for name in low_rank]) / BLAS_MACS_PER_S
    if streams:
        tried = items(TOKEN_TRIALS.of(streams * network.macs))
        runs = items(COVARIANCES.of(network.macs)) + (1 + streams * (1 + KEPT) / 2) * tried
        steps["trying narrower residual streams"] = runs * one + BUILD_COPIES * streams * copy
    layers = _readers(opened) if cut else []
    if cut:
        groups = opened.analysis.groups
        each = [len(refit_widths(g.size, removed_at_once(g.size, STEP))) - 0.5 for g in groups if g.size > 1]
        few = WIDTH_TRIALS.of(probed * network.macs * len(groups)) == 1
        widths = sum(min(n, 1 + n / 4) for n in each) if few else sum(each)
        gathered = items(COVARIANCES.of(network.macs))
        steps["ranking units"] = 1.3 * gathered * one + _ranking_macs(layers) / BLAS_MACS_PER_S
        steps["pricing widths"] = widths * (SUFFIX * probed * one + copy)
        refitted = items(COMPENSATION.of(network.macs))
        steps["building the result"] = (1 + 2 * KEPT) * refitted * one + KEPT * _refit_macs(layers) / BLAS_MACS_PER_S
        if not fit.is_random:
            settings = ReconstructSettings()
            seen = min(settings.work_macs / (4 * max(network.macs, 1)), settings.most_epochs * fit.items)
            enough = seen >= min(settings.least_samples, settings.most_epochs * fit.items)
            steps["recovering accuracy"] = 4 * seen * one * enough + 8 * SIMULATED * one
    if measured:
        names = ("measuring network", "racing formats", "searching and measuring") if cut else ("measuring network",)
        steps |= {name: usual_s(name) or 0.0 for name in names}
    seconds = spent_s + sum(steps.values())
    memory = BASE_BYTES + CACHED_BYTES + 3 * weights + activations + _covariance_bytes(layers, weights)
    # About a tenth of the activations are alive between the layers, in the dense network and in the cut one.
    spooled = 0.1 * (1 + KEPT) * items(COMPENSATION.of(network.macs)) * activations
    return ExpectedCost(Cost(seconds, memory, int(min(SPOOL_BYTES, spooled)) if cut else 0), steps)


def _readers(opened: OpenedModel) -> list[Linear]:
    """The layers that read any group."""
    context = Context(opened.dense, opened.analysis.groups, None)
    found = {c.linear.node: c.linear for group in context.groups for c in context.consumers(group)}
    return list(found.values())


def _ranking_macs(layers: list[Linear]) -> float:
    """Covariances of all layers, and the removal of all units from their inverses."""
    sampling = Sampling(macs=2e10, most_rows=16_384)
    gathered = sum(x.groups * sampling.rows(x.features) * x.features**2 / 2 for x in layers)
    return gathered + sum(2.5 * x.groups * min(x.features, MOST_FEATURES) ** 3 for x in layers)


def _rank_macs(layers: list[Linear]) -> float:
    """Covariances of all layers, what they make of the outputs, and the eigenvectors of the smaller side."""
    gathered = sum(RANK_ROWS.rows(x.features) * x.features**2 / 2 for x in layers)
    sides = sum(x.features**2 * min(x.outputs, x.features) + 12 * min(x.outputs, x.features) ** 3 for x in layers)
    return gathered + sides


def _refit_macs(layers: list[Linear]) -> float:
    sampling = Sampling()
    rows = (sampling.rows(x.features, x.outputs) for x in layers)
    return sum(
        2 * x.groups * n * x.features * (x.features / 2 + x.outputs) * KEPT for x, n in zip(layers, rows, strict=True)
    )


def _sparsify_macs(opened: OpenedModel) -> float:
    """Second moments of the layers that may be 2:4, the inverse, and the updates of their weights, column by column."""
    layers = [x for x in find_linears(opened.dense).values() if x.features <= MOST_FEATURES]
    return sum(x.features**3 + 6 * x.outputs * x.features**2 for x in layers)


def _covariance_bytes(layers: list[Linear], weights: int) -> int:
    every = sum(4 * x.groups * min(x.features, MOST_FEATURES) ** 2 for x in layers)
    widest = max((min(x.features, MOST_FEATURES) for x in layers), default=0)
    inverse = (8 if widest <= DOUBLE_PRECISION_FEATURES else 4) * widest**2
    return int(min(every, max(GRAM_BYTES, GRAM_SHARE * weights))) + 3 * inverse


def _activation_bytes(opened: OpenedModel) -> int:
    """Bytes of all activations of one sample."""
    shapes = [static_shape(o) for node in opened.fixed.graph for o in node.outputs]
    return 4 * sum(int(np.prod(shape)) for shape in shapes if shape)
