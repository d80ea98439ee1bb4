"""Which of the five calibrators' ranges each activation gets.

`least_noise` chooses tensor by tensor: it takes the range that changes the outputs of the tensor's readers least. But
clipping errors are not independent: they add up along the network, which no single tensor shows. So `best_ranges`
compares the result with each calibrator for all tensors, by the error at the network's output.

If linear layers read a value, it is quantized with every proposed range on sampled inputs of the layers, and the error
is measured at the layers' outputs: clipping a channel with small weights costs nothing there. If no linear layer reads
the value, its own error counts (`edgeprune.quantization.ranges`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import Calibration
from edgeprune.graph import Floats, Linear, find_linears
from edgeprune.quantization.ranges import CALIBRATORS, LEVELS, Histogram, Range, expected_error, propose
from edgeprune.recovery import Probe, Sampling, gather_rows

Proposals = Mapping[str, Mapping[str, tuple[float, float]]]
"""Value name -> calibrator -> (low, high)."""

PER_TENSOR = "per tensor"
TRIED_ITEMS = 32
"""Samples on which whole networks are compared."""
SAMPLING = Sampling(macs=1e8, rows_per_feature=0.0, least_rows=256, most_rows=1024)
SKETCHED_OUTPUTS = 32
"""For layers with more outputs the error is measured on this many random mixtures of the outputs."""


def best_ranges(
    model: ir.Model,
    counted: Mapping[str, Histogram],
    data: Calibration,
    quantize: Callable[[Mapping[str, Range]], ir.Model],
    *,
    tried_items: int = TRIED_ITEMS,
    symmetric: bool = False,
    threads: int = 1,
) -> tuple[str, dict[str, Range]]:
    """The calibrator, or ``per tensor``, whose ranges change the network's output least, and these ranges.

    Args:
        model: the float model.
        counted: value name -> histogram over the calibration data.
        data: samples, from which the inputs of the layers are taken.
        quantize: quantizes the network with given ranges.
        tried_items: how many samples the network is run on, seven times.
        symmetric: whether ranges are [-a, a].
        threads: threads of onnxruntime.
    """
    proposals = {name: propose(h, symmetric=symmetric) for name, h in counted.items()}
    candidates = {c: {name: Range(*bounds[c], c) for name, bounds in proposals.items()} for c in CALIBRATORS}
    candidates[PER_TENSOR] = least_noise(model, counted, proposals, data, threads)
    probe = Probe(model, data, tried_items, threads)
    errors = {name: probe.error(quantize(ranges)) for name, ranges in candidates.items()}
    best = min(errors, key=errors.__getitem__)
    return best, candidates[best]


def least_noise(
    model: ir.Model, counted: Mapping[str, Histogram], proposals: Proposals, data: Calibration, threads: int = 1
) -> dict[str, Range]:
    """The proposed range with the least error at the outputs of the value's linear readers, or of the value itself."""
    errors = {
        name: {c: expected_error(counted[name], *bounds) for c, bounds in ranges.items()}
        for name, ranges in proposals.items()
    }
    errors |= _errors_behind_weights(model, proposals, data, threads)
    best = {name: min(CALIBRATORS, key=found.__getitem__) for name, found in errors.items()}
    return {name: Range(*proposals[name][c], c) for name, c in best.items()}


def _errors_behind_weights(
    model: ir.Model, proposals: Proposals, data: Calibration, threads: int
) -> dict[str, dict[str, float]]:
    """Value name -> calibrator -> squared error at the outputs of the linear readers, relative to their energy."""
    layers = [layer for layer in find_linears(model).values() if layer.input in proposals]
    if not layers:
        return {}
    noise = {layer.node: dict.fromkeys(CALIBRATORS, 0.0) for layer in layers}
    energy = dict.fromkeys(noise, 0.0)
    sketches: dict[str, Floats] = {}
    for layer, x in gather_rows(model, layers, data, SAMPLING, threads):
        if layer.node not in sketches:
            sketches[layer.node] = _sketched(_matrix(model, layer)).transpose(0, 2, 1)
        weight = sketches[layer.node]
        energy[layer.node] += float(((x @ weight) ** 2).sum())
        known: dict[tuple[float, float], float] = {}
        for calibrator, bounds in proposals[layer.input].items():
            if bounds not in known:
                change = quantized(x, *bounds) - x
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
    """Random mixtures of W's rows with the same expected energy (random signs; Johnson & Lindenstrauss 1984)."""
    outputs = matrix.shape[1]
    if outputs <= SKETCHED_OUTPUTS:
        return matrix
    signs = np.random.default_rng(0).choice(np.array([-1, 1], matrix.dtype), (SKETCHED_OUTPUTS, outputs))
    return np.asarray(signs @ matrix / matrix.dtype.type(np.sqrt(SKETCHED_OUTPUTS)))


def quantized(x: Floats, low: float, high: float) -> Floats:
    """The values after quantization to 8 bits between ``low`` and ``high``; zero stays zero."""
    if high <= low:
        return np.zeros_like(x)
    step = (high - low) / (LEVELS - 1)
    zero = np.rint(-low / step)
    steps = np.clip(np.rint(x / x.dtype.type(step)), -zero, LEVELS - 1 - zero)
    return np.asarray(steps * x.dtype.type(step))
