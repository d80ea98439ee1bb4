"""Equalize channels before quantization, so that large channels do not take most of the INT8 range.

A tensor has one scale, so its largest channel sets the step of all channels. If the scale of channels is free
(`edgeprune.quantization.channel_scaling`), dividing channel j by s_j and multiplying the weights that read it by s_j
moves the difficulty from the activation to the weights. The rule is SmoothQuant (Xiao et al. 2022, eq. 4) behind a
LayerNormalization, and cross-layer equalization (Nagel et al. 2019) behind a layer, for weights quantized per output
channel:

    s_j = max|x_j|^a / max|W_:,j|^(1 - a)

The strength a is chosen for every tensor. It gives the least expected rounding noise at the outputs of the readers, of
activation and weights together. If no scaling has the least noise, nothing changes.

Requires a canonical float model. Ensures that the model computes the same (up to float rounding), with the same names.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.calibration import Calibration
from edgeprune.graph import Floats, Linear, layer_bias, layer_matrix, set_weights
from edgeprune.quantization import ChannelRange, Scaling, channel_peaks, channel_ranges, feature_scale, find_scalings

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
WORTHWHILE = 0.9
"""Channels are scaled if that reduces the expected noise below this share."""
_LARGEST = 1e3
"""Largest factor of a channel, and its inverse the smallest, so that no weight leaves the range of float16."""


def equalize(model: ir.Model, calibration: Calibration, *, symmetric: bool = False, threads: int = 1) -> ir.Model:
    """A copy of the model that computes the same and loses less in INT8.

    Args:
        model: canonical, float.
        calibration: samples for the ranges of channels.
        symmetric: whether activations will be quantized with zero point 0, as TensorRT needs.
        threads: threads of onnxruntime.

    Raises:
        CalibrationError: an activation is not finite on the data.
    """
    copy = graphs.clone(model)
    scalings = find_scalings(copy)
    ranges = channel_ranges(copy, {s.value: s.axis for s in scalings}, calibration, threads)
    for scaling in scalings:
        scale = choose_scale(copy, scaling, ranges[scaling.value], symmetric)
        if scale is not None:
            apply_scale(copy, scaling, scale)
    return copy


def choose_scale(model: ir.Model, scaling: Scaling, seen: ChannelRange, symmetric: bool) -> Floats | None:
    """The scale of every channel, shape (channels,), or None if scaling gains too little."""
    peak = np.maximum(np.abs(seen.low), np.abs(seen.high)).astype(np.float64)
    weights = _weight_peaks(model, scaling)
    alive = (peak > 0) & (weights > 0)
    if not alive.any():
        return None
    candidates = []
    for strength in STRENGTHS:
        s = np.ones(scaling.channels)
        s[alive] = peak[alive] ** strength / weights[alive] ** (1 - strength)
        s[alive] /= np.exp(np.log(s[alive]).mean())
        candidates.append(np.clip(s, 1 / _LARGEST, _LARGEST))
    noise = [expected_noise(model, scaling, seen, s, symmetric) for s in candidates]
    best = int(np.argmin(noise))
    untouched = expected_noise(model, scaling, seen, np.ones(scaling.channels), symmetric)
    return candidates[best] if noise[best] < WORTHWHILE * untouched else None


def expected_noise(model: ir.Model, scaling: Scaling, seen: ChannelRange, scale: Floats, symmetric: bool) -> float:
    """Squared error at the outputs of the readers, relative to the energy of each reader's outputs, summed.

    Rounding errors are assumed independent and uniform, step^2 / 12, as is usual for 8 bits and more.
    """
    low, high = float((seen.low / scale).min()), float((seen.high / scale).max())
    width = 2 * max(abs(low), abs(high)) if symmetric else max(high, 0.0) - min(low, 0.0)
    step = width / 255
    total = 0.0
    for layer in scaling.readers:
        matrix = layer_matrix(model, layer)
        s, square = feature_scale(layer, scale), feature_scale(layer, seen.square)
        scaled = matrix * s[:, None, :]
        weight_step = np.abs(scaled).max(axis=2) / 127
        energy = float(np.einsum("gof,gf->", matrix**2, square))
        if energy <= 0:
            continue
        of_activation = step**2 / 12 * float((scaled**2).sum())
        of_weights = float((weight_step**2 / 12 * (square / s**2).sum(axis=1)[:, None]).sum())
        total += (of_activation + of_weights) / energy
    return total


def apply_scale(model: ir.Model, scaling: Scaling, scale: Floats) -> None:
    """Divide the producer's outputs by ``scale``, shape (channels,), and multiply the readers' weights by it."""
    if scaling.producer is not None:
        producer = scaling.producer
        mine = scale.reshape(producer.groups, producer.outputs)
        matrix, bias = layer_matrix(model, producer), layer_bias(model, producer)
        set_weights(model, producer, matrix / mine[:, :, None], bias / mine)
    if scaling.producer is None or scaling.producer.op == "MatMul":
        for name in scaling.vectors:
            value = model.graph.initializers[name]
            assert value.const_value is not None
            old = value.const_value.numpy()
            value.const_value = ir.Tensor((old / scale.reshape(old.shape)).astype(old.dtype), name=name)
    for layer in scaling.readers:
        _scale_inputs(model, layer, scale)


def _scale_inputs(model: ir.Model, layer: Linear, scale: Floats) -> None:
    matrix = layer_matrix(model, layer) * feature_scale(layer, scale)[:, None, :]
    # If an Add behind a MatMul adds the bias, the bias stays: layer_bias is what the node itself adds.
    set_weights(model, layer, matrix, layer_bias(model, layer))


def _weight_peaks(model: ir.Model, scaling: Scaling) -> Floats:
    """Largest weight of each input channel over all readers: shape (channels,)."""
    peaks = [channel_peaks(model, layer).max(axis=1).reshape(-1) for layer in scaling.readers]
    return np.asarray(np.max(peaks, axis=0), dtype=np.float64)
