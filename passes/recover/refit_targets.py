"""Which layers are refitted after a cut, and to what: the part of compensation that looks at graphs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import Linear, find_linears, has_bias, read_names, weights_read_once

Kept = Mapping[tuple[str, int], NDArray[np.int64]]


class Limits(Protocol):
    """Features up to which a layer's weights are refitted, where its input lost channels and where it did not."""

    @property
    def most_features(self) -> int:
        """Where its own input lost channels."""

    @property
    def uncut_features(self) -> int:
        """Where only values changed."""


@dataclass(frozen=True, eq=False)
class Target:
    """A layer to refit: its views in both networks, and the skip connection its output is added to, if any.

    ``mix``, shape (outputs, outputs), is what the wanted outputs are multiplied by.
    """

    layer: Linear
    kept_outputs: NDArray[np.int64] | None
    full: bool
    skip: str | None = None
    mix: NDArray[np.float64] | None = None


def find_targets(dense: ir.Model, pruned: ir.Model, kept: Kept, limits: Limits) -> list[Target]:
    """The layers to refit, in graph order: their input changed, and no other layer shares their weights.

    What stands in for a branch that was dropped bears the name of the branch's last layer, and reads another value.
    """
    linears, originals = find_linears(pruned), find_linears(dense)
    single = weights_read_once(pruned, linears.values())
    changed = {name for name, _ in kept}
    for node in pruned.graph:
        if any(name in changed for name in read_names(node)):
            changed.update(str(output.name) for output in node.outputs)
    targets = []
    for name, layer in linears.items():
        if name not in originals or layer.weight not in single:
            continue
        if layer.input not in changed and layer.input == originals[name].input:
            continue
        is_cut = any(value == layer.input for value, _ in kept)
        full = layer.features <= (limits.most_features if is_cut else limits.uncut_features)
        if not full and not has_bias(layer):
            continue
        rank = _rank_of(originals[name], dense)
        outputs = kept.get((layer.output, layer.output_axis % rank)) if rank else None
        targets.append(Target(layer, outputs, full, _skip_of(pruned, layer)))
    return targets


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
