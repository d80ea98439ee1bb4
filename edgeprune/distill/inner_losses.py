"""Distances between the networks at inner values."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import torch
from torch.nn import functional

from edgeprune.distill.losses import Loss, Pair, Tensor, Values, loss
from edgeprune.graph import find_linears, static_shape

MOST_VALUES = 16
"""Most inner values at which networks are compared."""


def picked(tensor: Tensor, pair: Pair, name: str) -> Tensor:
    """The teacher's value at the positions that the student has."""
    for axis in range(tensor.dim()):
        kept = pair.kept.get((name, axis))
        if kept is not None and len(kept) < tensor.shape[axis]:
            tensor = tensor.index_select(axis, torch.as_tensor(kept, device=tensor.device))
    return tensor


def layer_outputs(pair: Pair, ranks: Sequence[int]) -> list[str]:
    """Outputs of linear layers, spread over the network, that both have; behind their activation where that is one."""
    ends = {str(v.name) for v in pair.student.graph.outputs}
    values = {str(o.name): o for n in pair.student.graph for o in n.outputs}
    shared = set(pair.shared)
    found = []
    for layer in find_linears(pair.student).values():
        if layer.output in values:
            name = _behind_bias(values[layer.output])
            if name in shared and name not in ends and len(static_shape(values[name]) or ()) in ranks:
                found.append(name)
    found = list(dict.fromkeys(found))
    every = max(1, -(-len(found) // MOST_VALUES))
    return found[every - 1 :: every]


def _behind_bias(value: ir.Value) -> str:
    readers = value.consumers()
    if (
        len(readers) == 1
        and readers[0].op_type == "Add"
        and any(v is not None and v.is_initializer() for v in readers[0].inputs)
    ):
        return str(readers[0].outputs[0].name)
    return str(value.name)


@loss("feature")
def feature(pair: Pair) -> Loss | None:
    """Squared differences behind linear layers, divided by the teacher's variance.

    Romero et al. 2015, "FitNets", without adapters: the student's channels are those of the teacher's that were kept.
    """
    names = layer_outputs(pair, (2, 3, 4))
    if not names:
        return None

    def distance(teacher: Values, student: Values) -> Tensor:
        total: Tensor = 0.0
        for name in names:
            wanted = picked(teacher[name], pair, name).float()
            gap = student[name].float() - wanted
            total = total + (gap * gap).mean() / wanted.var().clamp_min(1e-12)
        return total / len(names)

    return Loss(tuple(names), distance)


@loss("cwd")
def channelwise(pair: Pair) -> Loss | None:
    """Channels as distributions over the positions of a map: Shu et al. 2021, "Channel-wise Knowledge Distillation".

    The sum over channels of the KL divergence of the softmax over positions, times the square of the temperature 4.
    """
    temperature = 4.0
    names = layer_outputs(pair, (4,))
    if not names:
        return None

    def distance(teacher: Values, student: Values) -> Tensor:
        total: Tensor = 0.0
        for name in names:
            wanted = picked(teacher[name], pair, name).float().flatten(2) / temperature
            log_p, log_q = (
                functional.log_softmax(x, -1) for x in (wanted, student[name].float().flatten(2) / temperature)
            )
            total = total + (log_p.exp() * (log_p - log_q)).sum(-1).mean() * temperature**2
        return total / len(names)

    return Loss(tuple(names), distance)


@loss("attention")
def attention(pair: Pair) -> Loss | None:
    """Attention maps: KL divergence of every row, as in Touvron et al. 2021 and Jiao et al. 2020, "TinyBERT"."""
    shared = set(pair.shared)
    names = []
    for node in pair.dense.graph:
        if node.op_type == "Softmax" and node.inputs[0] is not None and str(node.inputs[0].name) in shared:
            shape = static_shape(node.inputs[0])
            source = node.outputs[0].consumers()
            if shape is not None and len(shape) >= 3 and any(n.op_type == "MatMul" for n in source):
                names.append(str(node.inputs[0].name))
    if not names:
        return None

    def distance(teacher: Values, student: Values) -> Tensor:
        total: Tensor = 0.0
        for name in names:
            log_p = functional.log_softmax(picked(teacher[name], pair, name).float(), -1)
            log_q = functional.log_softmax(student[name].float(), -1)
            total = total + (log_p.exp() * (log_p - log_q)).sum(-1).mean()
        return total / len(names)

    return Loss(tuple(names), distance)
