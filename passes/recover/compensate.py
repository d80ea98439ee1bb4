"""Compensation: refit the weights that read a cut so that the kept channels replace the removed ones.

Every linear layer whose input changed is refitted by ridge regression, in graph order. Its inputs come from the
compressed network as compensated so far, and its targets from the dense network. So each layer also corrects the error
that earlier layers left. With the dense network's inputs this is the formula of CORP and of "Optimal Brain Compression"
(Frantar & Alistarh 2022); with the compressed network's inputs it is that of K-prune and of "Greedy Output
Approximation". A layer that ends a residual branch is fitted to the dense sum: the error of the skip connection is
added to its target. If there are few rows, a blend of both networks' inputs is tried too, which follows their noise
less. Blend and damping are chosen on held-out samples.

Requires that the pruned model keeps the dense model's node and value names. Ensures that only values of weights and
biases change (a layer without a bias gets one if that costs nothing). Ensures that the result is closer to the dense
network than the pruned model is, on further samples that were used neither for fitting nor for choosing; otherwise the
pruned model is returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import (
    Calibration,
    Fidelity,
    Spool,
    StagedNetwork,
    open_comparable,
    outputs_of,
)
from edgeprune.dependency import Analysis, Cut
from edgeprune.graph import (
    aligned_levels,
    has_bias,
    layer_matrix,
    read_names,
    set_shared_weights,
)
from edgeprune.outputs import MOST_POINTS
from edgeprune.passes.recover.attention_logits import match_logits
from edgeprune.passes.recover.refit_samples import CompensateSettings, batch_size, choose_samples
from edgeprune.passes.recover.refit_targets import Target, find_targets
from edgeprune.recovery import (
    Kept,
    Moments,
    refit,
    require_finite,
)
from edgeprune.support import Progress, Step, prefetch, shared_cores

Rows = tuple[NDArray[Any], NDArray[Any]]


@shared_cores()
def compensate(
    dense: ir.Model,
    pruned: ir.Model,
    analysis: Analysis,
    cut: Cut,
    calibration: Calibration,
    *,
    settings: CompensateSettings | None = None,
    progress: Progress | None = None,
) -> ir.Model:
    """Return a copy of the pruned model with refitted weights.

    Args:
        dense: the canonical dense model.
        pruned: the same model without the units that the cut does not keep.
        analysis: analysis of the dense model.
        cut: units that were kept.
        calibration: at least two samples; memory does not grow with their number.
        settings: sampling, damping, limits.
        progress: shows how far the pass is.

    Raises:
        CalibrationError: fewer than two samples, a full disk, or a NaN or infinite activation (the message names it).
    """
    settings = settings or CompensateSettings()
    kept = analysis.kept(cut)
    comparable = open_comparable(dense, calibration)
    delivered, dense, pruned = pruned, comparable.of(dense), comparable.of(pruned)
    calibration = comparable.data(calibration)
    model = graph.clone(pruned)
    mixes = match_logits(dense, model, kept, calibration, settings.threads)
    found = find_targets(dense, model, kept, settings.most_features, settings.uncut_features)
    targets = [replace(t, mix=mixes.get(t.layer.node)) for t in found]
    if not targets and not mixes:
        return graph.clone(delivered)
    with Spool() as spool, (progress or Progress()).step("compensating", total=len(targets)) as step:
        scored = _run(dense, model, targets, kept, calibration, settings, spool, step)
    if not _is_closer(model, pruned, dense, scored, settings.threads):
        left = graph.clone(delivered)
        names = [t.layer.node for t in targets] or list(mixes)
        graph.add_warning(left, f"{_named(names)} not refitted: on held-out samples the outputs were no closer with it")
        return left
    return model if pruned is delivered else graph.with_weights_of(delivered, model)


def _named(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"layer {names[0]!r} was"
    return f"{len(names)} layers ({names[0]!r} to {names[-1]!r}) were"


def _run(
    dense: ir.Model,
    model: ir.Model,
    targets: Sequence[Target],
    kept: Kept,
    calibration: Calibration,
    settings: CompensateSettings,
    spool: Spool,
    step: Step,
) -> Calibration:
    """Refit the targets in place, level by level; returns samples that were not used, to score the result on."""
    stops = {target.layer.node for target in targets}
    read = {str(node.name): set(read_names(node)) for node in dense.graph}
    watched = {
        t.layer.node: ({t.skip} if t.skip is not None else set()) | ({t.layer.input} - read[t.layer.node])
        for t in targets
    }
    known = {name for t in targets for name in (t.layer.input, t.layer.output)}.union(*watched.values())
    shared = [[t.layer.output for t in group] for group in _by_weight(targets).values() if len(group) > 1]
    aligned = aligned_levels((dense, model), stops, known, shared)
    until: dict[str, int] = {}
    for t in targets:
        for name in watched[t.layer.node]:
            until[name] = max(until.get(name, 0), aligned[t.layer.output])
    networks = [
        StagedNetwork(m, stops, until, spool, tag, settings.threads, aligned)
        for m, tag in ((dense, "dense/"), (model, "pruned/"))
    ]
    samples, scored = choose_samples((dense, model), networks, calibration, settings, spool)
    size = batch_size(dense, samples[0])
    share = min(1.0, size / (samples[0].items + samples[1].items))
    fitted_batches = 0
    for part in samples:
        for feeds in part.batches(size):
            for network in networks:
                network.feed(feeds)
            fitted_batches += part is samples[0]
    levels = networks[1].level_of
    groups = _by_weight(targets).values()
    targets = [t for group in groups if len({levels[t.layer.output] for t in group}) == 1 for t in group]
    rng = np.random.default_rng(settings.seed)
    for level in range(1, max(len(network.segments) for network in networks)):
        here = [t for t in targets if levels[t.layer.output] == level]
        here = [t if t.skip and levels.get(t.skip, 0) < level else replace(t, skip=None) for t in here]
        fits = {t.layer.weight: _Evidence() for t in here}
        for batch, values in prefetch(networks[0].run(level, [t.layer.output for t in here])):
            for t in here:
                found = _rows(t, values, networks, batch, kept, rng, settings, share)
                fits[t.layer.weight].add(found, t, held_out=batch >= fitted_batches)
        for weight, group in _by_weight(here).items():
            _refit(model, group, fits.pop(weight), settings)
            step.advance(len(group))
        for _ in networks[1].run(level):
            pass
        for network in networks:
            network.release(level)
    return scored


class _Evidence:
    """The data of one refit, of all layers that share a weight.

    Statistics for every blend of inputs, and held-out rows of the real inputs.
    """

    def __init__(self) -> None:
        self.moments: dict[float, Moments] = {}
        self.held_out: list[Rows] = []

    def add(self, rows: Mapping[float, Rows], target: Target, *, held_out: bool) -> None:
        """Add one batch: blend -> inputs and target outputs."""
        if held_out:
            self.held_out.append(rows[1.0])
            return
        for blend, (x, y) in rows.items():
            self.moments.setdefault(blend, Moments(diagonal=not target.full)).add(x, y)


def _rows(
    target: Target,
    values: Mapping[str, NDArray[Any]],
    networks: Sequence[StagedNetwork],
    batch: int,
    kept: Kept,
    rng: np.random.Generator,
    settings: CompensateSettings,
    share: float,
) -> dict[float, Rows]:
    """Rows of one batch by blend: inputs (for 1 the compressed network's), and target outputs of the dense network."""
    layer = target.layer
    wanted = values[layer.output]
    own_axis = layer.output_axis % wanted.ndim
    wanted = _cut(wanted, layer.output, kept, but=own_axis)  # positions can be cut too, as learned queries are
    if target.kept_outputs is not None:
        wanted = wanted.take(target.kept_outputs, axis=own_axis)
    if target.skip is not None:
        original, present = (network.read(target.skip, batch) for network in networks)
        wanted = wanted + (_cut(original, target.skip, kept) - present)
    x = networks[1].read(layer.input, batch)
    positions = layer.positions(x.shape)
    chosen = settings.sampling.choose(rng, positions, layer.features, share, layer.outputs)
    rows, targets = layer.rows(x, chosen), layer.targets(wanted, chosen)
    if target.mix is not None:
        targets = (targets @ target.mix).astype(targets.dtype)
    require_finite(rows, layer.input)
    require_finite(targets, layer.output)
    found = {1.0: (rows, targets)}
    if target.full and len(chosen) < settings.blended_rows * layer.features * share:
        dense_rows = layer.rows(_cut(networks[0].read(layer.input, batch), layer.input, kept), chosen)
        for blend in settings.blends:
            found[blend] = ((1 - blend) * dense_rows + blend * rows).astype(rows.dtype), targets
    return found


def _cut(value: NDArray[Any], name: str, kept: Kept, but: int | None = None) -> NDArray[Any]:
    """A dense activation with only the positions that the compressed network has; the axis ``but`` stays whole."""
    for axis in range(value.ndim):
        if (name, axis) in kept and axis != but:
            value = value.take(kept[name, axis], axis=axis)
    return value


def _by_weight(targets: Sequence[Target]) -> dict[str, list[Target]]:
    found: dict[str, list[Target]] = {}
    for target in targets:
        found.setdefault(target.layer.weight, []).append(target)
    return found


def _refit(model: ir.Model, targets: Sequence[Target], evidence: _Evidence, settings: CompensateSettings) -> None:
    """Refit layers that share a weight; they have one solution."""
    layer = targets[0].layer
    dampings = settings.dampings if targets[0].full else ()
    start, intercept = layer_matrix(model, layer), has_bias(layer)
    fit = refit(list(evidence.moments.values()), evidence.held_out, start, intercept=intercept, dampings=dampings)
    set_shared_weights(model, [target.layer for target in targets], fit.matrix, fit.offset)


def _is_closer(model: ir.Model, pruned: ir.Model, dense: ir.Model, held_out: Calibration, threads: int) -> bool:
    """Whether the model's outputs on held-out samples are closer to the dense network's than the pruned model's."""
    runtime = OnnxRuntime(threads)
    by_signal = outputs_of(dense, held_out).by_signal()
    fidelity = Fidelity(runtime.load(dense).run, held_out, by_signal, kept_bytes=0)
    scores = [fidelity.compare(runtime.load(candidate).run) for candidate in (model, pruned)]
    lost, lost_before = (sum(score.weight * score.drop for score in found) for found in scores)
    # An output whose size depends on the data cannot be compared: then nothing speaks against the refit.
    return lost < lost_before or any(score.drop >= MOST_POINTS for score in scores[1])
