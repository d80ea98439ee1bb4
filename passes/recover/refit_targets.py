"""The layers to refit after a cut, and their targets: the part of compensation that needs only the graphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import Linear, find_linears, has_bias, layers_by_weight, read_names
from edgeprune.recovery import Kept


@dataclass(frozen=True, eq=False)
class Target:
    """A layer to refit.

    Attributes:
        layer: the layer in the pruned network.
        kept_outputs: output channels that stay; None if all stay.
        full: whether the weights are refitted, not only the bias.
        skip: name of the skip connection that is added to the layer's output, if any.
        mix: shape (outputs, outputs), what the target outputs are multiplied by, if anything.
    """

    layer: Linear
    kept_outputs: NDArray[np.int64] | None
    full: bool
    skip: str | None = None
    mix: NDArray[np.float64] | None = None


def find_targets(
    dense: ir.Model, pruned: ir.Model, kept: Kept, most_features: int, uncut_features: int
) -> list[Target]:
    """The layers to refit, in graph order: their input changed.

    Layers that share a weight are targets together, if one solution can serve them all; see `layers_by_weight`.

    A layer that replaces a dropped branch has the name of the branch's last layer and reads another value.

    Args:
        dense: the dense network.
        pruned: the pruned network.
        kept: positions of each axis that stay.
        most_features: most features of a layer whose weights are refitted if its input lost channels.
        uncut_features: the same if only the values of its input changed.
    """
    linears, originals = find_linears(pruned), find_linears(dense)
    together = layers_by_weight(pruned, linears.values())
    changed = {name for name, _ in kept}
    for node in pruned.graph:
        if any(name in changed for name in read_names(node)):
            changed.update(str(output.name) for output in node.outputs)

    def is_changed(layer: Linear) -> bool:
        return layer.input in changed or layer.input != originals[layer.node].input

    targets = []
    for name, layer in linears.items():
        layers = together.get(layer.weight, ())
        if any(other.node not in originals for other in layers) or not any(map(is_changed, layers)):
            continue
        is_cut = layer.input != originals[name].input or any(value == layer.input for value, _ in kept)
        full = layer.features <= (most_features if is_cut else uncut_features)
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
    """The value that an Add, the only reader of the layer's output with bias, adds to the output."""
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
