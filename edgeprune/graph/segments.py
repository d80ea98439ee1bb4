"""Cut a model into segments that onnxruntime runs one after another.

For given stop nodes, the *level* of a value is the largest number of stops on any path to it. A segment is all nodes of
one level; values that later segments read cross its boundary. The segments together run every node once, for any number
of stops.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir


@dataclass(frozen=True)
class Segment:
    """Nodes of one level, the names of values that they read from earlier levels, and of those that others read."""

    level: int
    nodes: tuple[ir.Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_names(node: ir.Node) -> Iterator[str]:
    """Names of all values that a node and its subgraphs read."""
    for value in node.inputs:
        if value is not None and value.name:
            yield value.name
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else ()
        graphs = attribute.value if attribute.type == ir.AttributeType.GRAPHS else graphs
        for graph in graphs:
            for inner in graph:
                yield from read_names(inner)
            for output in graph.outputs:
                if output.name:
                    yield output.name


def levels_of(model: ir.Model, stops: Collection[str], at_least: Mapping[str, int] | None = None) -> dict[str, int]:
    """Node name -> level of its outputs; a stop is one level above what it reads.

    ``at_least``: value name -> lowest level that it may have, because it has that level in another network.
    """
    at_least = at_least or {}
    level_of_value: dict[str, int] = {}
    levels: dict[str, int] = {}
    for node in model.graph:
        level = max((level_of_value.get(name, 0) for name in read_names(node)), default=0)
        level = max(level + (node.name in stops), *(at_least.get(str(o.name), 0) for o in node.outputs))
        levels[str(node.name)] = level
        for output in node.outputs:
            level_of_value[str(output.name)] = level
    return levels


def aligned_levels(
    models: Sequence[ir.Model],
    stops: Collection[str],
    values: Collection[str],
    together: Collection[Collection[str]] = (),
) -> dict[str, int]:
    """Levels that are the same in all networks, for the values and stops given: value name -> lowest level.

    The replacement of a dropped branch reads another value than the branch, so its own level may be another. Values in
    ``together`` have one level in each set; the sets for which that cannot be (one value depends on another) are left
    out.
    """
    found: dict[str, int] = {}
    while True:
        before = found
        for model in models:
            levels = levels_of(model, stops, found)
            made = {str(o.name): levels[str(node.name)] for node in model.graph for o in node.outputs}
            found = {name: max(made.get(name, 0), found.get(name, 0)) for name in values}
            for several in together if max(found.values(), default=0) <= len(stops) else ():
                found |= dict.fromkeys(several, max(found[name] for name in several))
        if found == before:
            return found


def cut_into_segments(
    model: ir.Model,
    stops: Collection[str],
    watched: Collection[str] = (),
    at_least: Mapping[str, int] | None = None,
) -> list[Segment]:
    """The model's segments, from level 0 up; every level has one, possibly without nodes.

    Args:
        model: the model.
        stops: names of the nodes to stop at.
        watched: names of values that always cross the boundary.
        at_least: value name -> lowest level that it may have.
    """
    levels = levels_of(model, stops, at_least)
    initializers = set(model.graph.initializers)
    made_at: dict[str, int] = {}
    readers: dict[str, set[int]] = {}
    nodes: dict[int, list[ir.Node]] = {level: [] for level in range(max(levels.values(), default=0) + 1)}
    for node in model.graph:
        level = levels[str(node.name)]
        nodes[level].append(node)
        for output in node.outputs:
            if output.name:
                made_at[output.name] = level
        for name in read_names(node):
            readers.setdefault(name, set()).add(level)
    final = {str(value.name) for value in model.graph.outputs} | set(watched)
    segments = []
    for level, members in nodes.items():
        own = {str(o.name) for node in members for o in node.outputs if o.name}
        inner = {read for node in members for read in read_names(node)}
        inputs = sorted(n for n in inner if n not in own and n not in initializers and _is_outer(n, made_at, model))
        outputs = sorted(n for n in own if n in final or any(reader > level for reader in readers.get(n, ())))
        segments.append(Segment(level, tuple(members), tuple(inputs), tuple(outputs)))
    return segments


def segment_bytes(model: ir.Model, segment: Segment, outputs: Collection[str]) -> bytes:
    """The segment as a separate model with these outputs and the weights that it reads."""
    values = {str(v.name): v for v in model.graph.inputs}
    values |= {str(o.name): o for node in model.graph for o in node.outputs}
    graph = onnx.GraphProto(name=f"segment_{segment.level}")
    graph.node.extend(ir.to_proto(node) for node in segment.nodes)
    for name in sorted({name for node in segment.nodes for name in read_names(node)}):
        value = model.graph.initializers.get(name)
        if value is not None and value.const_value is not None:
            proto = onnx.numpy_helper.from_array(value.const_value.numpy(), name)
            graph.initializer.append(proto)
    for field, names in ((graph.input, segment.inputs), (graph.output, outputs)):
        for name in names:
            info = onnx.ValueInfoProto(name=name)
            dtype = values[name].dtype
            if dtype is not None:
                info.type.tensor_type.elem_type = int(dtype)
            field.append(info)
    proto = onnx.ModelProto(ir_version=model.ir_version, graph=graph)
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    proto.functions.extend(ir.to_proto(function) for function in model.functions.values())
    return bytes(proto.SerializeToString())


def _is_outer(name: str, made_at: dict[str, int], model: ir.Model) -> bool:
    """Whether a name is a value of the main graph, not of a subgraph inside the node."""
    return name in made_at or any(value.name == name for value in model.graph.inputs)
