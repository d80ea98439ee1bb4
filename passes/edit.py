"""Small edits of an ONNX graph that several passes share: new names, initializers and nodes, and who reads what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import PassError

_NAMING: ContextVar[tuple[ir.Graph, set[str | None]] | None] = ContextVar("edgeprune_naming", default=None)


@contextmanager
def naming(graph: ir.Graph) -> Iterator[None]:
    """Gather the graph's names once instead of for every new one, while a pass edits it through this module alone."""
    token = _NAMING.set((graph, _taken(graph)))
    try:
        yield
    finally:
        _NAMING.reset(token)


def fresh_name(graph: ir.Graph, wanted: str) -> str:
    """The first of ``wanted``, ``wanted_1``, ``wanted_2``, ... that no value and no node of the graph bears."""
    current = _NAMING.get()
    taken = current[1] if current is not None and current[0] is graph else _taken(graph)
    name, count = wanted, 0
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    taken.add(name)
    return name


def _taken(graph: ir.Graph) -> set[str | None]:
    taken: set[str | None] = {*graph.initializers, *(value.name for value in graph.inputs)}
    for node in graph.all_nodes():
        taken.add(node.name)
        taken.update(value.name for value in node.outputs)
    return taken


def add_initializer(graph: ir.Graph, wanted: str, array: NDArray[Any]) -> ir.Value:
    """Register ``array`` as an initializer under ``wanted`` or a name derived from it."""
    name = fresh_name(graph, wanted)
    tensor = ir.tensor(np.ascontiguousarray(array) if array.ndim else array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def add_node(
    graph: ir.Graph,
    op: str,
    inputs: list[ir.Value],
    wanted: str,
    dtype: ir.DataType,
    attributes: dict[str, Any] | None = None,
) -> ir.Node:
    """A new node with one output shaped like its first input; the caller places it into the graph."""
    node = ir.node(op, inputs, attributes or {}, num_outputs=1, name=fresh_name(graph, wanted))
    (output,) = node.outputs
    output.name, output.dtype = fresh_name(graph, f"{wanted}_output"), dtype
    output.shape = inputs[0].shape.copy() if inputs[0].shape is not None else None
    return node


def reroute(
    value: ir.Value, replacement: ir.Value, consumers: Iterable[ir.Node] | None, keep: Iterable[ir.Node] = ()
) -> None:
    """Let ``consumers`` (all, if None; never those of ``keep``) read ``replacement`` instead of ``value``.

    A graph output stays what it is.
    """
    wanted = None if consumers is None else set(consumers)
    spared = set(keep)
    for node, index in tuple(value.uses()):
        if node not in spared and (wanted is None or node in wanted):
            node.replace_input_with(index, replacement)


def find_value(graph: ir.Graph, name: str) -> ir.Value:
    """The input, initializer or node output of that name in the main graph. Raises PassError if there is none."""
    if name in graph.initializers:
        return graph.initializers[name]
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.name == name:
            return value
    raise PassError(f"the graph has no value {name!r}")


def place_after(graph: ir.Graph, source: ir.Value, nodes: list[ir.Node]) -> None:
    """Insert ``nodes`` where ``source`` exists and nothing has read it yet, which keeps the graph sorted."""
    producer = source.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    elif len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend(nodes)
