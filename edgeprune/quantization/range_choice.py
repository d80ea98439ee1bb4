"""Which of the five calibrators' ranges each activation gets.

`choose_ranges` goes tensor by tensor, and takes the range that changes the outputs of its readers least. But errors of
clipping are not independent: they add up along the network in a way that no tensor alone shows. So `best_ranges` weighs
that choice against each calibrator for all tensors, by the error at the network's output.

A value that linear layers read is quantized with every proposed range on sampled inputs of theirs, and the error is
measured where it counts, behind their weights: what a range clips off in a channel that no weight cares for costs
nothing. Values that nothing linear reads are judged by their own error (`edgeprune.quantization.ranges`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration
from edgeprune.graph import Linear, find_linears
from edgeprune.quantization.ranges import CALIBRATORS, Histogram, Range, expected_error, propose
from edgeprune.recovery import Probe, Sampling, gather_rows

Floats = NDArray[Any]

PER_TENSOR = "per tensor"
LEVELS = 256
TRIED_ITEMS = 32
"""Samples on which whole networks are compared."""
ITEMS = 128
"""Samples that the readers' inputs are taken from."""
SAMPLING = Sampling(products=1e8, rows_per_feature=0.0, least_rows=256, most_rows=1024)
SKETCHED_OUTPUTS = 32
"""Errors of layers with more outputs are measured in so many random mixtures of them."""


def best_ranges(
    model: ir.Model,
    counted: Mapping[str, Histogram],
    data: Calibration,
    quantize: Callable[[Mapping[str, Range]], ir.Model],
    *,
    symmetric: bool = False,
    threads: int = 1,
) -> tuple[str, dict[str, Range]]:
    """The calibrator, or ``per tensor``, whose ranges change the network's output least, and those ranges.

    Args:
        model: in float.
        counted: value name -> histogram over the calibration data.
        data: the same data; the network is run on a few samples of it, seven times.
        quantize: the network quantized with given ranges.
        symmetric: whether ranges are [-a, a].
        threads: of onnxruntime.
    """
    proposals = {name: propose(h, symmetric=symmetric) for name, h in counted.items()}
    candidates = {c: {name: Range(*bounds[c], c) for name, bounds in proposals.items()} for c in CALIBRATORS}
    candidates[PER_TENSOR] = _least_noise(model, counted, proposals, data, LEVELS, threads)
    probe = Probe(model, data, TRIED_ITEMS, threads)
    errors = {name: probe.error(quantize(ranges)) for name, ranges in candidates.items()}
    best = min(errors, key=errors.__getitem__)
    return best, candidates[best]


def choose_ranges(
    model: ir.Model,
    counted: Mapping[str, Histogram],
    data: Calibration,
    *,
    levels: int = LEVELS,
    symmetric: bool = False,
    threads: int = 1,
) -> dict[str, Range]:
    """The best range of every counted value.

    Args:
        model: whose layers read the values.
        counted: value name -> histogram over the calibration data.
        data: the same data; a few samples of it are run again.
        levels: how many integers there are.
        symmetric: whether ranges are [-a, a].
        threads: of onnxruntime.
    """
    proposals = {name: propose(h, levels, symmetric) for name, h in counted.items()}
    return _least_noise(model, counted, proposals, data, levels, threads)


def _least_noise(
    model: ir.Model,
    counted: Mapping[str, Histogram],
    proposals: Mapping[str, Mapping[str, tuple[float, float]]],
    data: Calibration,
    levels: int,
    threads: int,
) -> dict[str, Range]:
    """Of every value's proposals the one of least error behind its readers' weights, or of its own."""
    errors = {
        name: {c: expected_error(counted[name], *bounds, levels) for c, bounds in ranges.items()}
        for name, ranges in proposals.items()
    }
    errors |= _errors_behind_weights(model, proposals, data, levels, threads)
    best = {name: min(CALIBRATORS, key=found.__getitem__) for name, found in errors.items()}
    return {name: Range(*proposals[name][c], c) for name, c in best.items()}


def _errors_behind_weights(
    model: ir.Model,
    proposals: Mapping[str, Mapping[str, tuple[float, float]]],
    data: Calibration,
    levels: int,
    threads: int,
) -> dict[str, dict[str, float]]:
    """Value name -> calibrator -> squared error at the outputs of the linear readers, relative to their energy."""
    layers = [layer for layer in find_linears(model).values() if layer.input in proposals]
    if not layers:
        return {}
    noise = {layer.node: dict.fromkeys(CALIBRATORS, 0.0) for layer in layers}
    energy = dict.fromkeys(noise, 0.0)
    sketches: dict[str, Floats] = {}
    for layer, x in gather_rows(model, layers, data.subset(ITEMS), SAMPLING, threads):
        if layer.node not in sketches:
            sketches[layer.node] = _sketched(_matrix(model, layer)).transpose(0, 2, 1)
        weight = sketches[layer.node]
        energy[layer.node] += float(((x @ weight) ** 2).sum())
        known: dict[tuple[float, float], float] = {}
        for calibrator, bounds in proposals[layer.input].items():
            if bounds not in known:
                change = quantized(x, *bounds, levels) - x
                known[bounds] = float(((change @ weight) ** 2).sum())
            noise[layer.node][calibrator] += known[bounds]
    found: dict[str, dict[str, float]] = {}
    for layer in layers:
        total = found.setdefault(layer.input, dict.fromkeys(CALIBRATORS, 0.0))
        for calibrator in CALIBRATORS:
            total[calibrator] += noise[layer.node][calibrator] / max(energy[layer.node], 1e-30)
    return found


def _matrix(model: ir.Model, layer: Linear) -> Floats:
    tensor = model.graph.initializers[layer.weight].const_value
    assert tensor is not None
    return layer.matrix(tensor.numpy())


def _sketched(matrix: Floats) -> Floats:
    """W of few rows whose outputs have the same expected energy: signs at random (Johnson & Lindenstrauss 1984)."""
    outputs = matrix.shape[1]
    if outputs <= SKETCHED_OUTPUTS:
        return matrix
    signs = np.random.default_rng(0).choice(np.array([-1, 1], matrix.dtype), (SKETCHED_OUTPUTS, outputs))
    return np.asarray(signs @ matrix / matrix.dtype.type(np.sqrt(SKETCHED_OUTPUTS)))


def quantized(x: Floats, low: float, high: float, levels: int = 256) -> Floats:
    """The values after rounding to ``levels`` steps between ``low`` and ``high``; zero stays zero."""
    if high <= low:
        return np.zeros_like(x)
    step = (high - low) / (levels - 1)
    zero = np.rint(-low / step)
    steps = np.clip(np.rint(x / x.dtype.type(step)), -zero, levels - 1 - zero)
    return np.asarray(steps * x.dtype.type(step))
