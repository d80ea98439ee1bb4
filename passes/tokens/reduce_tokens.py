"""The pass that lets tokens leave: adds the steps of a schedule, and shortens everything behind them.

Behind a step that merges, attention counts a token once for each patch that it stands for: the logarithm of the number
is added to the logits (Bolya et al. 2023, equation 1). A mean over the tokens is weighted in the same way. What needs
all tokens, such as a dense head, gets them back: see `edgeprune.passes.tokens.restore`.

Requires a canonical model and sites of `edgeprune.passes.tokens.sites.token_sites`. Ensures, by inferring all shapes
again, that every value keeps its shape but for the tokens that left. With no tokens that leave the model is unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.dependency import Repair, repair_of
from edgeprune.errors import EdgepruneError, PassError
from edgeprune.graph import Refused, dim_keys, find_value, is_op, naming
from edgeprune.passes.tokens.merge_nodes import add_step
from edgeprune.passes.tokens.restore import Restorer
from edgeprune.passes.tokens.settings import TokenSetting, TokenStep
from edgeprune.passes.tokens.sites import Site, flow_from, token_sites
from edgeprune.passes.tokens.tables import Tables
from edgeprune.passes.tokens.token_flow import Place, TokenFlow
from edgeprune.passes.tokens.writer import Writer


def reduce_tokens(
    model: ir.Model, steps: Sequence[TokenStep], setting: TokenSetting, sites: Sequence[Site] | None = None
) -> ir.Model:
    """Return a copy of the model in which tokens leave at these sites; the model itself if none leaves.

    Args:
        model: canonical; not changed.
        steps: sites and numbers of tokens.
        setting: how tokens are matched, and whether they are merged.
        sites: of the model, if they are known.

    Raises:
        PassError: a step is at no site, or more tokens would leave than can; the text names the site.
    """
    leaving = {step.site: step.leave for step in steps if step.leave}
    if not leaving:
        return model
    known = token_sites(model) if sites is None else tuple(sites)
    if isinstance(known, Refused):
        raise PassError(f"reduce_tokens: {known}")
    if unknown := sorted(leaving.keys() - {site.value for site in known}):
        raise PassError(f"reduce_tokens: tokens cannot leave at {unknown[0]!r}")
    copy = graphs.clone(model)
    before = {str(v.name): v.shape for node in copy.graph for v in node.outputs}
    with naming(copy.graph):
        cuts = _added(copy.graph, [s.value for s in known if s.value in leaving], leaving, known[0].protected, setting)
        kept = _kept(cuts)
        _repair(copy.graph, kept)
    _infer(copy, before, {(name, axis): len(positions) for (name, axis), positions in kept.items()})
    return copy


@dataclass(frozen=True, eq=False)
class _Cut:
    """A step as it was added: the tokens behind it, how many they are, what they stand for, index and tables."""

    flow: TokenFlow
    count: int
    tokens: ir.Value
    sizes: ir.Value | None
    index: ir.Value | None
    tables: Tables | None


def _added(
    graph: ir.Graph, values: Sequence[str], leaving: Mapping[str, int], protected: int, setting: TokenSetting
) -> list[_Cut]:
    """Add all steps, and weight attention and means behind them."""
    flows: list[TokenFlow] = []
    for name in reversed(values):  # what a later step gives all tokens reads all of them from earlier steps, too
        flow = flow_from(graph, find_value(graph, name), flows[0].restores if flows else ())
        if isinstance(flow, Refused):
            raise PassError(f"reduce_tokens: tokens cannot leave at {name!r}: {flow}")
        flows.insert(0, flow)
    cuts: list[_Cut] = []
    numbered = any(flow.tables for flow in flows)
    indexed = any(flow.outputs or any(_operand(p) is not flow.source for p in flow.restores) for flow in flows)
    for name, flow in zip(values, flows, strict=True):
        count = cuts[-1].count if cuts else flow.count
        leave, most = leaving[name], setting.most(count, protected)
        if not 0 < leave <= most:
            raise PassError(f"reduce_tokens: {leave} tokens cannot leave at {name!r}: at most {most} of {count} can")
        whole = {(p.node, p.operand) for p in flow.restores}  # they read the tokens from before the step
        source, readers = flow.source, [use for use in flow.source.uses() if (use.node, use.idx) not in whole]
        producer = source.producer()
        assert producer is not None
        after = list(graph)[list(graph).index(producer) + 1]
        writer = Writer(graph, after, f"{name}/tokens")
        earlier = cuts[-1].sizes if cuts else None
        made = add_step(writer, source, earlier, count, protected, leave, setting, indexed=indexed)
        index = made.index
        if index is not None and cuts and cuts[-1].index is not None:
            index = writer.op("GatherElements", index, cuts[-1].index, axis=1)
        made.tokens.shape = None if source.shape is None else source.shape.copy()  # as long as nodes are repaired
        for node, operand in readers:
            node.replace_input_with(operand, made.tokens)
        tables = Tables(writer, made.stay(), cuts[-1].tables if cuts else None) if numbered else None
        cuts.append(_Cut(flow, count - leave, made.tokens, made.sizes, index, tables))
    for k, cut in enumerate(cuts):
        later = cuts[k + 1].flow if k + 1 < len(cuts) else None
        if cut.sizes is not None:
            _weight(graph, cut, later)
        if cut.tables is not None:
            of_later = set() if later is None else {p.node for p in later.tables}
            for place in cut.flow.tables:
                if place.node not in of_later:
                    cut.tables.shorten(graph, place)
        if cut.index is not None:
            _restore(graph, cut, later)
    return cuts


def _operand(place: Place) -> ir.Value:
    value = place.node.inputs[place.operand]
    assert value is not None
    return value


def _restore(graph: ir.Graph, cut: _Cut, later: TokenFlow | None) -> None:
    """Give all tokens to what needs them between a step and the next one; what the next one leaves alone included."""
    assert cut.index is not None
    restorer = Restorer(graph, cut.index, cut.flow.count, cut.flow.is_single)
    done = set() if later is None else {(p.node, p.operand) for p in later.restores if _operand(p) is not later.source}
    for place in cut.flow.restores:
        if (place.node, place.operand) not in done and _operand(place) is not cut.flow.source:
            restorer.operand(place)
    for value in cut.flow.outputs:
        if later is None or value not in later.axes or value is later.source:
            restorer.output(value, cut.flow.axes[value][0], cut.flow.batch.get(value))


def _weight(graph: ir.Graph, cut: _Cut, later: TokenFlow | None) -> None:
    """Weight the attention and the means between a step and the next one by the patches of each token."""
    done = set() if later is None else {p.node for p in (*later.softmaxes, *later.pools)}
    assert cut.sizes is not None
    assert cut.sizes.dtype is not None
    logs: dict[tuple[int, ...], ir.Value] = {}
    for place in cut.flow.softmaxes:
        if place.node in done:
            continue
        shape = _target(place)
        if shape not in logs:
            writer = Writer(graph, place.node, f"{cut.flow.source.name}/sizes")
            logs[shape] = writer.reshape(writer.op("Log", cut.sizes), *shape)
        _add_to_logits(graph, cut, place, logs[shape])
    for place in cut.flow.pools:
        if place.node in done:
            continue
        first = place.tokens.first
        writer = Writer(graph, place.node, f"{place.node.name}/sizes")
        sizes = cut.sizes
        if first:
            sizes = writer.op("Slice", sizes, *(writer.constant([v]) for v in (first, cut.count, 1)))
        share = np.asarray((cut.count - first) / (cut.flow.count - first), cut.sizes.dtype.numpy())
        weights = writer.reshape(writer.op("Mul", sizes, writer.constant(share)), *_target(place))
        value = place.node.inputs[0]
        assert value is not None
        weighted = writer.op("Mul", value, weights)
        weighted.shape = None if value.shape is None else value.shape.copy()
        place.node.replace_input_with(0, weighted)


def _length(query: ir.Value) -> int:
    """The number of queries that are no tokens, such as a class token alone."""
    shape = dim_keys(query)
    length = None if shape is None else shape[1 if len(shape) == 3 else 2]
    if not isinstance(length, int):
        raise PassError(f"reduce_tokens: the number of queries of {query.name} is not known")
    return length


def _add_to_logits(graph: ir.Graph, cut: _Cut, place: Place, logs: ir.Value) -> None:
    node = place.node
    if is_op(node, "Attention"):  # onnxruntime wants a row for each query
        query = node.inputs[0]
        assert query is not None
        on = next(iter(cut.flow.axes.get(query, ())), None)
        rows = _length(query) if on is None else cut.count - on.first
        writer = Writer(graph, node, f"{node.name}/sizes")
        mask = writer.op("Expand", logs, writer.constant([1, 1, rows, 1]))
        node.resize_inputs(max(len(node.inputs), 4))
        node.replace_input_with(3, mask)
        return
    value = node.inputs[0]
    assert value is not None
    added = Writer(graph, node, f"{node.name}/sizes").op("Add", value, logs)
    added.shape = None if value.shape is None else value.shape.copy()
    node.replace_input_with(0, added)


def _target(place: Place) -> tuple[int, ...]:
    """The shape of sizes (batch, tokens, 1) beside the operand of a place: 1 for all other axes."""
    if is_op(place.node, "Attention"):
        return (0, 1, 1, -1)
    value = place.node.inputs[place.operand]
    assert value is not None
    assert value.shape is not None
    found = [1] * len(value.shape)
    found[place.tokens.axis] = -1
    if place.batch == 0:
        found[0] = 0
    return tuple(found)


def _kept(cuts: Sequence[_Cut]) -> dict[tuple[str, int], NDArray[np.int64]]:
    """(value, axis) -> the positions that stay, for every axis that carries tokens behind a step."""
    found: dict[tuple[str, int], NDArray[np.int64]] = {}
    for cut in cuts:
        for value, axes in cut.flow.axes.items():
            name = str(cut.tokens.name if value is cut.flow.source else value.name)
            for tokens in axes:
                length = value.shape[tokens.axis] if value.shape is not None else None
                if isinstance(length, int):
                    outer = length // (cut.flow.count - tokens.first) if tokens.rows else 1
                    found[name, tokens.axis] = np.arange(outer * (cut.count - tokens.first), dtype=np.int64)
    return found


def _repair(graph: ir.Graph, kept: Mapping[tuple[str, int], NDArray[np.int64]]) -> None:
    """Repair every node that states the number of tokens."""
    shortened = {name for name, _ in kept}
    for node in list(graph):
        touched = [v for v in (*node.inputs, *node.outputs) if v is not None and v.name in shortened]
        if is_op(node, "Slice") and touched:
            _shorten_slice(graph, node, kept)
            continue
        function = repair_of(node, changed=bool(touched))
        if function is None or not touched or is_op(node, "ReduceMean", "Gather"):
            continue
        try:
            function(Repair(node, graph, kept))
        except EdgepruneError as error:
            raise PassError(f"reduce_tokens: {node.op_type} {node.name}: {error}") from error


def _shorten_slice(graph: ir.Graph, node: ir.Node, kept: Mapping[tuple[str, int], NDArray[np.int64]]) -> None:
    """A Slice that cuts off the first tokens ends behind the last one that stays."""
    source, result = node.inputs[0], node.outputs[0]
    assert source is not None
    assert source.shape is not None
    starts, ends, over = (graphs.constant(node.inputs[k]) if k < len(node.inputs) else None for k in (1, 2, 3))
    assert starts is not None
    assert ends is not None
    ends = ends.copy()
    for k, axis in enumerate(range(len(ends)) if over is None else over):
        at = int(axis) % len(source.shape)
        if (str(result.name), at) in kept:
            ends[k] = len(kept[str(source.name), at])
    node.replace_input_with(2, graphs.add_initializer(graph, graphs.fresh_name(graph, f"{node.name}/ends"), ends))


def _infer(model: ir.Model, before: Mapping[str, ir.Shape | None], lengths: Mapping[tuple[str, int], int]) -> None:
    """Infer all shapes, and compare them with those of the model before, but for the tokens."""
    for node in model.graph:
        for value in node.outputs:
            if node.domain in graphs.ONNX_DOMAINS and not graphs.has_subgraph(node) and not value.is_graph_output():
                value.shape = None
    graphs.infer_shapes(model)
    for node in model.graph:
        for value in node.outputs:
            expected = before.get(str(value.name))
            if expected is None or value.shape is None:
                continue
            for axis, (was, now) in enumerate(zip(expected, value.shape, strict=True)):
                want = lengths.get((str(value.name), axis), was)
                if isinstance(want, int) and isinstance(now, int) and want != now:
                    raise PassError(
                        f"reduce_tokens: {node.op_type} {node.name} would give {value.name} the length {now} on axis "
                        f"{axis}, not {want}"
                    )
