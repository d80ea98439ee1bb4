"""Compensation: what the kept channels can say of the removed ones is put into the weights that read them.

Every linear layer whose input changed is refitted by ridge regression, in graph order: inputs come from the network as
compressed and compensated so far, targets from the dense network, so that each layer also takes up the error that
earlier ones left. With the dense network's own inputs this is CORP's formula and that of "Optimal Brain Compression"
(Frantar & Alistarh 2022); with the compressed prefix's it is K-prune's and "Greedy Output Approximation"'s. A layer
that ends a residual branch is fitted to the dense sum: what the skip connection lacks is added to its target.

Requires that the pruned model keeps the dense one's node and value names. Ensures that only values of weights and
biases change (a layer without bias gets one where that costs nothing), and that the result is closer to the dense
network on held-out samples than the pruned one was: otherwise the pruned model comes back as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibrate import Calibration
from edgeprune.errors import EvaluationError
from edgeprune.evaluate import Fidelity
from edgeprune.gather import ACTIVATION_BYTES, Sampling, require_finite
from edgeprune.groups import Cut
from edgeprune.linear import Linear, find_linears, weights_read_once
from edgeprune.passes.set_weights import has_bias, set_weights
from edgeprune.progress import Progress, Step
from edgeprune.ridge import DAMPINGS, Fit, Moments, refit
from edgeprune.segments import cut_into_segments, read_names
from edgeprune.spool import Spool
from edgeprune.staged import StagedNetwork, boundary_bytes, largest_activation_bytes

Kept = Mapping[tuple[str, int], NDArray[np.int64]]


@dataclass(frozen=True)
class Settings:
    """What the fits are made from.

    Attributes:
        sampling: how many patches are gathered for a layer.
        holdout_fraction: share of the samples on which damping is chosen.
        dampings: what to choose from, as fractions of the mean diagonal of the covariance.
        most_features: a wider layer gets a new bias only: its covariance would take too much memory.
        uncut_features: a wider layer whose own input lost nothing gets a new bias only: a refit gains too little there.
        spool_bytes: activations on disk at a time; with more samples than fit, evenly spread ones are used.
        seed: of the choice of patches and of held-out samples.
        threads: threads of onnxruntime.
    """

    sampling: Sampling = field(default_factory=Sampling)
    holdout_fraction: float = 0.125
    dampings: tuple[float, ...] = DAMPINGS
    most_features: int = 6144
    uncut_features: int = 1152
    spool_bytes: int = 4 << 30
    seed: int = 0
    threads: int = 1


class Kepts(Protocol):
    """The part of an analysis that this pass needs."""

    def kept(self, cut: Cut) -> Kept:
        """(value name, axis) -> positions that stay, of every axis that loses any."""


@dataclass(frozen=True)
class Target:
    """A layer to refit: its views in both networks, and the skip connection its output is added to, if any."""

    layer: Linear
    kept_outputs: NDArray[np.int64] | None
    full: bool
    skip: str | None = None


def compensate(
    dense: ir.Model,
    pruned: ir.Model,
    analysis: Kepts,
    cut: Cut,
    calibration: Calibration,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> ir.Model:
    """Return a copy of the pruned model with refitted weights.

    Args:
        dense: the canonical dense model.
        pruned: the same without the units that the cut does not keep.
        analysis: of the dense model.
        cut: what was kept.
        calibration: at least two samples; memory does not grow with their number.
        settings: sampling, damping, limits.
        progress: told how far this is.

    Raises:
        CalibrationError: fewer than two samples, NaN or infinite activations (the text names the tensor), a full disk.
    """
    settings = settings or Settings()
    kept = analysis.kept(cut)
    model = graph.clone(pruned)
    targets = find_targets(dense, model, kept, settings)
    if not targets:
        return model
    with Spool() as spool, (progress or Progress()).step("compensating", total=len(targets)) as step:
        fit_set, held_out = _samples(dense, model, targets, calibration, settings)
        _run(dense, model, targets, kept, (fit_set, held_out), settings, spool, step)
    return model if _is_closer(model, pruned, dense, held_out, settings.threads) else graph.clone(pruned)


def find_targets(dense: ir.Model, pruned: ir.Model, kept: Kept, settings: Settings) -> list[Target]:
    """The layers to refit, in graph order: their input changed, and no other layer shares their weights."""
    linears, originals = find_linears(pruned), find_linears(dense)
    single = weights_read_once(pruned, linears.values())
    changed = {name for name, _ in kept}
    for node in pruned.graph:
        if any(name in changed for name in read_names(node)):
            changed.update(str(output.name) for output in node.outputs)
    targets = []
    for name, layer in linears.items():
        if layer.input not in changed or layer.weight not in single or name not in originals:
            continue
        is_cut = any(value == layer.input for value, _ in kept)
        full = layer.features <= (settings.most_features if is_cut else settings.uncut_features)
        if not full and not has_bias(layer):
            continue
        rank = _rank_of(originals[name], dense)
        outputs = kept.get((layer.output, layer.output_axis % rank)) if rank else None
        targets.append(Target(layer, outputs, full, _skip_of(pruned, layer)))
    return targets


def _run(
    dense: ir.Model,
    model: ir.Model,
    targets: Sequence[Target],
    kept: Kept,
    samples: tuple[Calibration, Calibration],
    settings: Settings,
    spool: Spool,
    step: Step,
) -> None:
    """Refit the targets in place, level by level."""
    stops = {target.layer.node for target in targets}
    skips = {target.skip for target in targets if target.skip is not None}
    networks = [
        StagedNetwork(m, stops, skips, spool, tag, settings.threads)
        for m, tag in ((dense, "dense/"), (model, "pruned/"))
    ]
    size = _batch_size(dense, samples[0])
    share = min(1.0, size / (samples[0].items + samples[1].items))
    fitted_batches = 0
    for part in samples:
        for feeds in part.batches(size):
            for network in networks:
                network.feed(feeds)
            fitted_batches += part is samples[0]
    levels = networks[1].level_of
    rng = np.random.default_rng(settings.seed)
    for level in range(1, max(len(network.segments) for network in networks)):
        here = [t for t in targets if levels[t.layer.output] == level]
        here = [t if t.skip and levels.get(t.skip, 0) < level else replace(t, skip=None) for t in here]
        moments = {t.layer.node: Moments(diagonal=not t.full) for t in here}
        held_out: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {t.layer.node: [] for t in here}
        for batch, values in networks[0].run(level, [t.layer.output for t in here]):
            for t in here:
                x, y = _rows(t, values, networks, batch, kept, rng, settings.sampling, share)
                if batch < fitted_batches:
                    moments[t.layer.node].add(x, y)
                else:
                    held_out[t.layer.node].append((x, y))
        for t in here:
            _refit(model, t, moments.pop(t.layer.node), held_out.pop(t.layer.node), settings)
            step.advance()
        for _ in networks[1].run(level):
            pass
        for network in networks:
            network.release(level)


def _rows(
    target: Target,
    values: Mapping[str, NDArray[Any]],
    networks: Sequence[StagedNetwork],
    batch: int,
    kept: Kept,
    rng: np.random.Generator,
    sampling: Sampling,
    share: float,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of one batch: inputs of the compressed network, outputs wanted by the dense one."""
    layer = target.layer
    wanted = values[layer.output]
    if target.kept_outputs is not None:
        wanted = wanted.take(target.kept_outputs, axis=layer.output_axis)
    if target.skip is not None:
        original, present = (network.read(target.skip, batch) for network in networks)
        for axis in range(original.ndim):
            if (target.skip, axis) in kept:
                original = original.take(kept[target.skip, axis], axis=axis)
        wanted = wanted + (original - present)
    x = networks[1].read(layer.input, batch)
    chosen = sampling.choose(rng, layer.positions(x.shape), layer.features, share, layer.outputs)
    rows, targets = layer.rows(x, chosen), layer.targets(wanted, chosen)
    require_finite(rows, layer.input)
    require_finite(targets, layer.output)
    return rows, targets


def _refit(
    model: ir.Model,
    target: Target,
    moments: Moments,
    held_out: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    settings: Settings,
) -> Fit:
    layer = target.layer
    tensor = model.graph.initializers[layer.weight].const_value
    assert tensor is not None, layer.weight
    dampings = settings.dampings if target.full else ()
    fit = refit(moments, held_out, layer.matrix(tensor.numpy()), intercept=has_bias(layer), dampings=dampings)
    set_weights(model, layer, fit.matrix, fit.offset)
    return fit


def _samples(
    dense: ir.Model, pruned: ir.Model, targets: Sequence[Target], calibration: Calibration, settings: Settings
) -> tuple[Calibration, Calibration]:
    """Samples to fit on and to hold out, as many as there is room for on disk."""
    stops = {target.layer.node for target in targets}
    each = sum(boundary_bytes(cut_into_segments(m, stops), m) for m in (dense, pruned))
    return calibration.subset(max(2, settings.spool_bytes // max(1, each))).split(
        settings.holdout_fraction, settings.seed
    )


def _is_closer(model: ir.Model, pruned: ir.Model, dense: ir.Model, held_out: Calibration, threads: int) -> bool:
    """Whether the model's outputs are closer to the dense network's on held-out samples than the pruned one's."""
    runtime = OnnxRuntime(threads)
    judge = Fidelity(runtime.load(dense).run, held_out, classifies=False)
    try:
        return judge.score(runtime.load(model).run) > judge.score(runtime.load(pruned).run)
    except EvaluationError:  # outputs whose number depends on the data can't be compared
        return True


def _batch_size(dense: ir.Model, calibration: Calibration) -> int:
    if not calibration.batchable:
        return 1
    return max(1, min(calibration.batch_size, ACTIVATION_BYTES // max(1, largest_activation_bytes(dense))))


def _rank_of(layer: Linear, model: ir.Model) -> int:
    for node in model.graph:
        if node.name == layer.node:
            return len(node.outputs[0].shape) if node.outputs[0].shape is not None else 0
    return 0


def _skip_of(model: ir.Model, layer: Linear) -> str | None:
    """The value that is added to the layer's output, bias included, by an Add that alone reads it."""
    ends = {layer.node, layer.bias.node}
    outputs = [node.outputs[0] for node in model.graph if node.name in ends]
    end = outputs[-1]
    uses = tuple(end.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or end.is_graph_output():
        return None
    other = uses[0].node.inputs[1 - uses[0].idx]
    if other is None or other is end or other.name in model.graph.initializers or other.shape is None:
        return None
    return str(other.name) if other.shape == end.shape else None
