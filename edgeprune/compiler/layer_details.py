"""Latency and loss of every layer of a result, for the report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import Tracer
from edgeprune.build import LayerPlan, levers, single
from edgeprune.compiler.session import CompileSession
from edgeprune.costmodel import Block
from edgeprune.latency import CORE, FLOAT, INT8, Format, Latency, Network
from edgeprune.report import Layer, LossPart
from edgeprune.search import Candidate, Problem

TRACE_SECONDS = 0.5


def layers_of_result(
    net: Network, latency: Latency, problem: Problem, candidate: Candidate, plans: Sequence[LayerPlan] = ()
) -> tuple[Layer, ...]:
    """Predicted latency and loss of every block of a candidate; ``plans`` say which nodes stay in FP32, and why."""
    wide = {p.node: p.reason for p in plans if p.reason}
    losses = layer_losses(net, problem, candidate)
    return tuple(
        Layer(
            block.anchor,
            block.nodes,
            _precision(candidate.formats[b], block, wide),
            latency.block_us(b, candidate.formats[b], candidate.widths),
            loss=float(losses[b]),
            reason=next((wide[n] for n in block.nodes if n in wide), None),
        )
        for b, block in enumerate(net.blocks)
    )


def _precision(format_: Format, block: Block, wide: Collection[str]) -> str:
    if all(name in wide for name in block.nodes):
        return FLOAT
    return INT8 if format_ == CORE else format_


def with_times(
    layers: Sequence[Layer],
    blocks: Sequence[Block],
    dense: ir.Model,
    result: ir.Model,
    tracer: Tracer,
) -> tuple[Layer, ...]:
    """The layers with their latencies in the dense network and in the result, by the profiler of the runtime.

    Args:
        layers: one for each block.
        blocks: of the network; their nodes have the same names in both models.
        dense: the original network in canonical form.
        result: the resulting network.
        tracer: times blocks on the device.
    """
    block_of = {name: b for b, block in enumerate(blocks) for name in block.nodes}
    before = tracer(dense, block_of, TRACE_SECONDS).block_us
    after = before if result is dense else tracer(result, block_of, TRACE_SECONDS).block_us
    return tuple(
        Layer(
            layer.node,
            layer.nodes,
            layer.precision,
            layer.predicted_us,
            after.get(b, 0.0),
            before.get(b, 0.0),
            layer.loss,
            layer.reason,
        )
        for b, layer in enumerate(layers)
    )


def losses_taken_back(session: CompileSession, candidate: Candidate) -> tuple[LossPart, ...]:
    """The drop of the result with one lever, group or layer taken back at a time; every variant is built and scored."""
    sizes, floating, net = session.latency.sizes, session.floating, session.network
    problem = session.losses_of(candidate)
    priced = zip(candidate.widths, problem.levels, problem.width_loss, strict=True)
    widths = np.array([np.interp(width, levels, losses) for width, levels, losses in priced])
    formats = np.array([form.get(f, 0.0) for form, f in zip(problem.format_loss, candidate.formats, strict=True)])
    names = [g.id for g in net.analysis.groups], [block.anchor for block in net.blocks]
    variants = [
        *levers(candidate.widths, candidate.formats, sizes, floating),
        *single(candidate.widths, candidate.formats, sizes, floating, widths, formats, names),
    ]
    found = [LossPart("nothing", "result", session.scores.drop(candidate))]
    with session.progress.step("finding what the loss comes from", len(variants)) as step:
        for variant in variants:
            drop = session.scores.drop(replace(candidate, widths=variant.widths, formats=variant.formats))
            found.append(LossPart(variant.name, variant.kind, drop))
            step.advance()
    return tuple(found)


def layer_losses(net: Network, problem: Problem, candidate: Candidate) -> NDArray[np.float64]:
    """Predicted loss of every block, shape (blocks,): of its format, and of the groups that it produces first.

    The sum is the predicted loss of the candidate.
    """
    losses = np.array([form.get(f, 0.0) for form, f in zip(problem.format_loss, candidate.formats, strict=True)])
    producers = first_producers(net)
    for g, (widths, values) in enumerate(zip(problem.levels, problem.width_loss, strict=True)):
        losses[producers[g]] += np.interp(candidate.widths[g], widths, values)
    return losses


def first_producers(net: Network) -> list[int]:
    """For every group the first block that has a tensor of its producers: a weight or an output."""
    first: dict[str, int] = {}
    block_of = {name: b for b, block in enumerate(net.blocks) for name in block.nodes}
    for node in net.model.graph:
        block = block_of.get(str(node.name), 0)
        for value in (*node.outputs, *node.inputs):
            if value is not None and value.name:
                first[value.name] = min(block, first.get(value.name, block))
    found = []
    for group in net.analysis.groups:
        producers = [m.value for m in group.members if m.role == "producer"] or [m.value for m in group.members]
        found.append(min((first[name] for name in producers if name in first), default=0))
    return found
