"""Quick trials of whole candidates: cut all groups, refit all layers, quantize blocks to INT8, get the output error.

Each width and format is priced alone, but losses do not simply add up. So whole candidates are tried as well. To be
quick, the refit is the closed form from the inputs of the dense network (CORP, OBC),

    W_S <- W C_:S (C_SS + r I)^-1      b <- b + W m - W_S m_S

with covariances that are gathered once for all trials. The refitted weights of a layer are cached by its kept inputs.
The full compensation also corrects the errors of earlier layers. It runs only once, for the best candidate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.build import ModelBuilder
from edgeprune.dependency import Analysis, Cut, droppable
from edgeprune.graph import (
    Linear,
    find_linears,
    has_bias,
    layer_matrix,
    layers_by_weight,
    set_shared_weights,
    shift_outputs,
)
from edgeprune.importance import DAMPING, MOST_FEATURES, Context, gather_moments
from edgeprune.passes.prune import merge_branches, prune_channels, shift_behind
from edgeprune.passes.rank import Factors, factor_layers, fold_factors, principal
from edgeprune.recovery import Probe
from edgeprune.search.problem import Candidate

Floats = NDArray[Any]
_Range = tuple[float, float]

COVARIANCE_BYTES = 1 << 30
"""Memory for covariances; if a network needs more, its widest layers are not refitted."""

SPREAD = 4.0
"""The values between two layers of low rank have unit variance: they are taken to be this near to their means."""

CACHED_BYTES = 256 << 20
"""Memory for refitted weights."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer of the dense network: W, shape (outputs, features), its bias, and the moments of its features."""

    linear: Linear
    matrix: Floats
    bias: Floats
    mean: Floats
    covariance: Floats


@dataclass(eq=False)
class JointTrial:
    """Tries candidates of one network.

    Attributes:
        dense: the canonical model.
        analysis: of this model.
        builder: cuts and quantizes.
        probe: computes output errors.
        ranges: of the dense network's activations.
        layers: node name -> the data for its refit.
    """

    dense: ir.Model
    analysis: Analysis
    builder: ModelBuilder
    probe: Probe
    ranges: Mapping[str, tuple[float, float]]
    layers: Mapping[str, _Layer]
    _refits: dict[tuple[str, bytes], tuple[Floats, Floats]] = field(default_factory=dict)
    _cached_bytes: int = 0

    def error(self, candidate: Candidate) -> float:
        """Output error of the network with these widths and formats, unitless."""
        return self.probe.error(self.model(candidate))

    def model(self, candidate: Candidate) -> ir.Model:
        """The network with these widths and formats, refitted quickly: it loses more than the one that is built."""
        cut = self.builder.cut(candidate.widths)
        model = self._cut(cut)
        model, inner = self._factored(model, cut, self.builder.low_rank.ranks(model, candidate.formats))
        int8 = self.builder.int8_nodes(model, candidate.formats)
        return self.builder.quantized(model, int8, {**self.ranges, **inner}) if int8 else model

    def _factored(self, model: ir.Model, cut: Cut, ranks: Mapping[str, int]) -> tuple[ir.Model, dict[str, _Range]]:
        """The model with two layers in place of some, and plausible ranges of the values between them."""
        if not ranks:
            return model, {}
        kept, linears = self.analysis.kept(cut), find_linears(model)
        factors: dict[str, Factors] = {}
        inner: dict[str, _Range] = {}
        for name, rank in ranks.items():
            view = linears[name]
            covariance, mean = self._moments(name, kept, view.features)
            if not has_bias(view):
                covariance, mean = covariance + np.outer(mean, mean), np.zeros(len(mean))
            factors[name] = principal(layer_matrix(model, view)[0], covariance, mean).factors(rank)
            middle = factors[name].first @ mean
            inner[name] = float(middle.min()) - SPREAD, float(middle.max()) + SPREAD
        split = factor_layers(model, factors)
        fold_factors(split, list(ranks))
        read = {str(n.name): str(n.inputs[0].name) for n in split.graph if n.name in inner and n.inputs[0] is not None}
        return split, {read[name]: bounds for name, bounds in inner.items()}

    def _moments(
        self, name: str, kept: Mapping[tuple[str, int], NDArray[np.int64]], count: int
    ) -> tuple[Floats, Floats]:
        """Covariance and mean of what a layer reads after a cut, of the dense network; unit ones if not gathered."""
        layer = self.layers.get(name)
        if layer is None:
            return np.eye(count), np.zeros(count)
        dense = layer.linear
        stays = np.zeros(dense.weight_shape[dense.channel_axis], np.bool_)
        stays[kept.get((dense.weight, dense.channel_axis), slice(None))] = True
        stays = dense.feature_values(stays)[0]
        return layer.covariance[np.ix_(stays, stays)], layer.mean[stays]

    def _cut(self, cut: Cut) -> ir.Model:
        if not cut:
            return self.dense
        kept = self.analysis.kept(cut)
        emptied = [self.analysis.group(g) for g, units in cut.items() if not len(units)]
        branches = {b.end: b for b in droppable(self.dense, emptied).values()} if emptied else {}
        model = prune_channels(self.dense, self.analysis, cut, inferred=False)
        linears = find_linears(model)
        together = dict(layers_by_weight(model, linears.values()))
        for name, layer in self.layers.items():
            dense = layer.linear
            channels = kept.get((dense.weight, dense.channel_axis))
            if channels is None or name not in linears:
                continue
            twins = together.pop(linears[name].weight, None)
            if twins is None:  # set already, with the first of the layers that share it
                continue
            stays = np.zeros(dense.weight_shape[dense.channel_axis], np.bool_)
            stays[channels] = True
            outputs = kept.get((dense.weight, _output_axis(dense)), slice(None))
            if not len(channels):  # the residual branch of this layer is dropped: its mean stays
                shift = layer.matrix @ layer.mean
                shift = shift_behind(self.dense, branches[name], shift) if name in branches else shift
                for twin in twins:
                    shift_outputs(model, twin, shift[outputs])
                continue
            matrix, bias = self._refit(layer, dense.feature_values(stays)[0])
            set_shared_weights(model, twins, matrix[outputs][None], bias[outputs][None])
        merge_branches(model)
        return model

    def _refit(self, layer: _Layer, stays: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        from scipy.linalg import cho_factor, cho_solve

        key = (layer.linear.node, np.packbits(stays).tobytes())
        if key not in self._refits:
            c_ss = layer.covariance[np.ix_(stays, stays)]
            c_ss.ravel()[:: len(c_ss) + 1] += DAMPING * max(float(np.trace(c_ss)) / len(c_ss), 1e-12)
            crossed = layer.covariance[stays] @ (layer.matrix * ~stays).T
            step = cho_solve(cho_factor(c_ss, lower=True, overwrite_a=True, check_finite=False), crossed)
            matrix = layer.matrix[:, stays] + step.T
            found = matrix, layer.bias + layer.matrix @ layer.mean - matrix @ layer.mean[stays]
            self._cached_bytes += matrix.nbytes
            if self._cached_bytes > CACHED_BYTES:
                self._refits.clear()
                self._cached_bytes = matrix.nbytes
            self._refits[key] = found
        return self._refits[key]


def open_joint_trial(
    context: Context,
    analysis: Analysis,
    builder: ModelBuilder,
    probe: Probe,
    ranges: Mapping[str, tuple[float, float]],
    low_rank: Collection[str] = (),
) -> JointTrial:
    """Gather the covariances of all layers that read cuttable channels, in one pass over the data.

    Also of those in ``low_rank``: names of nodes that may become two.
    """
    consumers = {c.linear.node: c.linear for g in context.groups for c in context.consumers(g)}
    consumers |= {name: context.linears[name] for name in low_rank}
    together = layers_by_weight(context.model, context.linears.values())
    refittable = [
        x for x in consumers.values() if x.groups == 1 and x.features <= MOST_FEATURES and x.weight in together
    ]
    chosen: list[Linear] = []
    total = 0
    for linear in sorted(refittable, key=lambda x: x.features):
        total += 4 * linear.features**2
        if total > COVARIANCE_BYTES:
            break
        chosen.append(linear)
    moments = gather_moments(context, chosen) if chosen else {}
    layers = {}
    for linear in chosen:
        found = moments.pop(linear.node)
        covariance, mean = found.covariances()[0][0], found.means()[0][0]
        layers[linear.node] = _Layer(
            linear,
            linear.matrix(context.weight(linear.weight))[0].astype(np.float32),
            _bias(context, linear),
            mean.astype(np.float32),
            covariance.astype(np.float32),
        )
    return JointTrial(context.model, analysis, builder, probe, ranges, layers)


def _bias(context: Context, linear: Linear) -> Floats:
    """The bias of the layer's own node; zero for a MatMul, whose bias is added by a later node."""
    if not linear.bias.value or linear.op == "MatMul":
        return np.zeros(linear.outputs, np.float32)
    return (context.weight(linear.bias.value).reshape(-1) * linear.bias.scale).astype(np.float32)


def _output_axis(linear: Linear) -> int:
    """Axis of the weight that holds the output channels."""
    return 1 - linear.channel_axis
