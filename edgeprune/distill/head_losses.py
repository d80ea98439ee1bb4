"""Distances at the ends of the networks: class scores, box distributions, and the outputs themselves."""

from __future__ import annotations

import math

import onnx_ir as ir
import torch
from torch.nn import functional

from edgeprune.distill.losses import Loss, Pair, Tensor, Values, loss
from edgeprune.graph import find_linears
from edgeprune.outputs import channel_axis
from edgeprune.recovery import has_classes, learn_weights, trainable

_GATES = ("Softmax", "LogSoftmax", "Sigmoid")


def gates(model: ir.Model) -> list[ir.Node]:
    """Softmax and Sigmoid nodes behind the last trained layers of a network, in order."""
    layers = {layer.node for layer in find_linears(model).values() if layer.weight in set(trainable(model))}
    found: list[ir.Node] = []
    seen: set[ir.Node] = set()
    stack = [v.producer() for v in model.graph.outputs]
    while stack:
        node = stack.pop()
        if node is None or node in seen or str(node.name) in layers:
            continue
        seen.add(node)
        if node.op_type in _GATES and not _gates_features(node):
            found.append(node)
        stack += [v.producer() for v in node.inputs if v is not None]
    order = {node: i for i, node in enumerate(model.graph)}
    return sorted(found, key=order.__getitem__)


def _gates_features(node: ir.Node) -> bool:
    """Whether a Sigmoid is half of a SiLU."""
    x = node.inputs[0]
    return node.op_type == "Sigmoid" and any(
        c.op_type == "Mul" and x in c.inputs for o in node.outputs for c in o.consumers()
    )


@loss("kd")
def knowledge(pair: Pair) -> Loss | None:
    """Distillation of what is softened at the ends of the network.

    * Classes: KL divergence of the softmax at a temperature, times its square (Hinton et al. 2015, "Distilling the
      Knowledge in a Neural Network").
    * Scores behind a Sigmoid, as of a dense detector: cross entropy of each score, weighted by how far it is off (Yang
      et al. 2023, "Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection").
    * Distributions behind another Softmax, as of the sides of a box: KL divergence, weighted by the teacher's highest
      score at the position (Zheng et al. 2022, "Localization Distillation for Dense Object Detection").
    """
    shared, parts = set(pair.shared), []
    nodes = [n for n in gates(pair.dense) if n.inputs[0] is not None and str(n.inputs[0].name) in shared]
    scores = [str(n.inputs[0].name) for n in nodes if n.op_type == "Sigmoid" and n.inputs[0] is not None]
    ended = set()
    for node in nodes:
        assert node.inputs[0] is not None
        name, rank = str(node.inputs[0].name), len(node.inputs[0].shape or ())
        ended |= {str(o.name) for o in node.outputs if o.is_graph_output()}
        if node.op_type == "Sigmoid":
            parts.append(_scores(name))
        else:
            axis = node.attributes.get_int("axis", -1) % rank
            parts.append(_distribution(name, axis, scores, pair.temperature))
    for output in pair.outputs.names:
        spec = pair.outputs.spec_of(output)
        if has_classes(spec) and output in shared and output not in ended and not _are_probabilities(pair, output):
            parts.append(_distribution(output, spec.axis, [], pair.temperature))
    if not parts:
        return None
    names = tuple(dict.fromkeys(n for part in parts for n in part.names))
    return Loss(names, lambda t, s: sum(part.distance(t, s) for part in parts))


def _are_probabilities(pair: Pair, output: str) -> bool:
    values = pair.samples[output]
    return bool((values >= 0).all() and (values <= 1).all())


def _scores(name: str) -> Loss:
    def distance(teacher: Values, student: Values) -> Tensor:
        x, target = student[name].float(), torch.sigmoid(teacher[name].float())
        entropy = functional.binary_cross_entropy_with_logits(teacher[name].float(), target, reduction="none")
        cross = functional.binary_cross_entropy_with_logits(x, target, reduction="none")
        off = (torch.sigmoid(x.detach()) - target).abs()
        return ((cross - entropy) * off).sum() / target.amax(_class_axis(target)).sum().clamp_min(1.0)

    return Loss((name,), distance)


def _class_axis(x: Tensor) -> int:
    return int(channel_axis(tuple(x.shape))) if x.dim() > 2 else -1


def _distribution(name: str, axis: int, scores: list[str], temperature: float) -> Loss:
    def distance(teacher: Values, student: Values) -> Tensor:
        log_p = functional.log_softmax(teacher[name].float() / temperature, axis)
        log_q = functional.log_softmax(student[name].float() / temperature, axis)
        divergence = (log_p.exp() * (log_p - log_q)).sum(axis) * temperature**2
        for score in scores:
            best = torch.sigmoid(teacher[score].float())
            best = best.amax(_class_axis(best))
            places = [a for a in range(1, divergence.dim()) if divergence.shape[a] == best.shape[-1]]
            if best.dim() == 2 and len(places) == 1:
                weight = best.reshape([-1 if a == 0 else best.shape[1] if a == places[0] else 1
                                       for a in range(divergence.dim())])  # fmt: skip
                others = math.prod(divergence.shape) / (divergence.shape[0] * best.shape[1])
                return (divergence * weight).sum() / (best.sum().clamp_min(1.0) * others)
        return divergence.mean()

    return Loss((name, *scores), distance)


@loss("logit-standard")
def standardized(pair: Pair) -> Loss | None:
    """Classes compared after each sample's scores are standardized (Sun et al. 2024, "Logit Standardization in KD")."""
    temperature = 2.0 if pair.temperature == 1.0 else pair.temperature
    names = []
    gated = {str(n.outputs[0].name): str(n.inputs[0].name) for n in gates(pair.dense)
             if n.op_type == "Softmax" and n.inputs[0] is not None}  # fmt: skip
    for output in pair.outputs.names:
        spec = pair.outputs.spec_of(output)
        name = gated.get(output, output)
        if has_classes(spec) and name in pair.shared:
            names.append((name, spec.axis))

    def standard(x: Tensor, axis: int) -> Tensor:
        x = x.float() - x.float().mean(axis, keepdim=True)
        return x / (x.std(axis, keepdim=True) + 1e-7) / temperature

    def distance(teacher: Values, student: Values) -> Tensor:
        total: Tensor = 0.0
        for name, axis in names:
            log_p = functional.log_softmax(standard(teacher[name], axis), axis)
            log_q = functional.log_softmax(standard(student[name], axis), axis)
            total = total + (log_p.exp() * (log_p - log_q)).sum(axis).mean() * temperature**2
        return total

    return Loss(tuple(n for n, _ in names), distance) if names else None


@loss("output")
def output(pair: Pair) -> Loss | None:
    """The output error that decides everywhere else, see `edgeprune.recovery.output_error`.

    Boxes count by the scores of their positions. Class scores count by ``kd``.
    """
    names = [n for n in pair.outputs.names if n in pair.shared and pair.outputs.share_of(n) > 0]
    names = [n for n in names if not has_classes(pair.outputs.spec_of(n))]
    if not names:
        return None
    shares = {n: pair.outputs.share_of(n) for n in names}
    learned = learn_weights([{n: pair.samples[n] for n in names}], shares, pair.axes)

    def distance(teacher: Values, student: Values) -> Tensor:
        arrays = {n: teacher[n].detach().float().cpu().numpy() for n in names}
        factors = learned.factors(arrays)
        total: Tensor = 0.0
        for n in names:
            gap = student[n].float() - teacher[n].float()
            total = total + (gap * gap * torch.from_numpy(factors[n]).to(gap.device)).sum()
        return total

    return Loss(tuple(names), distance)
