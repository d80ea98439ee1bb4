"""Small reads and edits of an ``onnx_ir`` graph that several passes share: constants, names, new nodes, readers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import PassError

ONNX_DOMAINS = frozenset({"", "ai.onnx"})


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these operators of the default ONNX domain."""
    return node is not None and node.op_type in op_types and node.domain in ONNX_DOMAINS


def has_subgraph(node: ir.Node) -> bool:
    """Whether a node is control flow: If, Loop, Scan, SequenceMap."""
    return any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    )


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs among a node's attributes."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type is ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type is ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def ints_attribute(node: ir.Node, name: str) -> tuple[int, ...] | None:
    """An attribute that is a list of integers, or None if it is absent."""
    found = node.attributes.get_ints(name)
    return None if found is None else tuple(found)


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """An input, or None if it is absent."""
    return node.inputs[index] if index < len(node.inputs) else None


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer that no caller can override, or None."""
    if value is None or not value.is_initializer() or value.is_graph_input():
        return None
    return value.const_value


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of an initializer that no caller can override, or None."""
    tensor = constant_tensor(value)
    return None if tensor is None else tensor.numpy()


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of a value if all its sizes are known, or None."""
    if value is None or value.shape is None:
        return None
    sizes = tuple(d for d in value.shape if isinstance(d, int))
    return sizes if len(sizes) == len(value.shape) else None


def dim_keys(value: ir.Value | None) -> tuple[int | str | None, ...] | None:
    """The shape of a value as integers, symbol names, and None for unknown sizes; None if the rank is unknown.

    An open axis of an input that has no name in the file is named after the input.
    """
    if value is None or value.shape is None:
        return None
    if value.is_graph_input():
        return tuple(
            d if isinstance(d, int) else d.value or own_symbol(value, k, "") for k, d in enumerate(value.shape)
        )
    return tuple(d if isinstance(d, int) else d.value for d in value.shape)


UNRESOLVED = "?"
"""Marks the symbol of a length that could not be derived, and may be derived later."""


def own_symbol(value: ir.Value, axis: int, mark: str = UNRESOLVED) -> str:
    """A symbol for the length of one axis of one value; of axis -1, for the number of its values that are not zero."""
    name = re.sub(r"[\s*/(),+]", ".", value.name or "")
    return f"{mark}{name}[{axis}]"


def only_use(value: ir.Value) -> tuple[ir.Node, int] | None:
    """The one node input that reads a value; None if there is none, several, or the value is a graph output."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    use = next(iter(uses))
    return use.node, use.idx


class Names:
    """Unused names for values and nodes of a model, or of a graph and the graphs inside its nodes."""

    def __init__(self, owner: ir.Model | ir.Graph) -> None:
        self._used: set[str] = set()
        for graph in owner.graphs() if isinstance(owner, ir.Model) else (owner, *owner.subgraphs()):
            self._used.update(value.name for value in graph.inputs if value.name)
            self._used.update(graph.initializers)
            for node in graph:
                self._used.update(value.name for value in node.outputs if value.name)
                if node.name:
                    self._used.add(node.name)

    def fresh(self, base: str) -> str:
        """``base`` if it is unused, else with the first unused number."""
        name, number = base, 1
        while name in self._used:
            name, number = f"{base}_{number}", number + 1
        self._used.add(name)
        return name


_NAMING: ContextVar[tuple[ir.Graph, Names] | None] = ContextVar("edgeprune_naming", default=None)


@contextmanager
def naming(graph: ir.Graph) -> Iterator[None]:
    """Collect the graph's names once, not for every new name, while a pass edits it with this module's functions."""
    token = _NAMING.set((graph, Names(graph)))
    try:
        yield
    finally:
        _NAMING.reset(token)


def fresh_name(graph: ir.Graph, wanted: str) -> str:
    """The first of ``wanted``, ``wanted_1``, ``wanted_2``, ... that no value and no node of the graph has."""
    current = _NAMING.get()
    names = current[1] if current is not None and current[0] is graph else Names(graph)
    return names.fresh(wanted)


def add_initializer(graph: ir.Graph, name: str, array: NDArray[Any] | ir.TensorProtocol) -> ir.Value:
    """Register a new initializer; ``name`` must be unused. A part of a larger array in memory is copied."""
    tensor = ir.Tensor(_without_rest(array), name=name) if isinstance(array, np.ndarray) else array
    shape = ir.Shape(tensor.shape.numpy())
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _without_rest(array: NDArray[Any]) -> NDArray[Any]:
    """The array, as a copy where it would keep a larger one in memory; a part of a mapped file stays there."""
    root: object = array
    while isinstance(root, np.ndarray) and root.base is not None:
        root = root.base
    held_bytes = len(root) if isinstance(root, bytes) else root.nbytes if isinstance(root, np.ndarray) else 0
    return array.copy() if held_bytes > array.nbytes else array


def int64_initializer(node: ir.Node, name: str, values: Sequence[int], names: Names) -> ir.Value:
    """Register a vector of INT64 in the graph of ``node``, such as axes or a target; ``name`` may get a number."""
    assert node.graph is not None
    return add_initializer(node.graph, names.fresh(name), np.asarray(values, np.int64))


def add_node(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    names: Names,
    *,
    attributes: Iterable[ir.Attr] = (),
    name: str,
    like: ir.Value | None = None,
    shape: Iterable[int | str | ir.SymbolicDim | None] | None = None,
) -> ir.Value:
    """Insert a node of the default domain with one output, which is named after it; returns the output.

    The output has the type of ``like``, and its shape unless ``shape`` is given.
    """
    assert before.graph is not None
    unique = names.fresh(name)
    node = ir.Node("", op_type, inputs, attributes, num_outputs=1, name=unique)
    (output,) = node.outputs
    output.name = names.fresh(f"{unique}_output_0")
    if like is not None:
        output.type = like.type
        output.shape = ir.Shape(shape) if shape is not None else like.shape and like.shape.copy()
    before.graph.insert_before(before, node)
    return output


def replace_value(old: ir.Value, new: ir.Value) -> bool:
    """Let all readers of ``old`` read ``new``; graph outputs keep their names. Returns whether it was possible.

    It is not possible if a graph output would become an input, an initializer, another output, or a value of an outer
    graph.
    """
    if old.is_graph_output():
        producer = new.producer()
        if producer is None or new.is_graph_output() or producer.graph is not old.graph:
            return False
        name = old.name
        old.name = f"{name}__replaced"
        new.name = name
        new.type = old.type if old.type is not None else new.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    return True


def detach(node: ir.Node) -> None:
    """Remove all reads in the bodies of a node that is removed: values of outer graphs count their readers."""
    for subgraph in subgraphs(node):
        for inner in subgraph:
            detach(inner)
            inner.resize_inputs(0)
        subgraph.outputs.clear()


def remove_dead(graph: ir.Graph) -> int:
    """Remove nodes and initializers that nothing reads; returns the number of removed nodes."""
    removed = 0
    for node in reversed(graph):
        if any(value.uses() or value.is_graph_output() for value in node.outputs):
            for subgraph in subgraphs(node):
                removed += remove_dead(subgraph)
            continue
        detach(node)
        graph.remove(node, safe=True)
        removed += 1
    for name, value in list(graph.initializers.items()):
        if not (value.uses() or value.is_graph_output() or value.is_graph_input()):
            del graph.initializers[name]
    return removed


def new_initializer(graph: ir.Graph, wanted: str, array: NDArray[Any]) -> ir.Value:
    """Register ``array`` as an initializer named ``wanted``, with a number if that name is used."""
    stored = np.ascontiguousarray(array) if array.ndim else np.asarray(array)
    return add_initializer(graph, fresh_name(graph, wanted), stored)


def new_node(
    graph: ir.Graph,
    op: str,
    inputs: list[ir.Value],
    wanted: str,
    dtype: ir.DataType,
    attributes: dict[str, Any] | None = None,
) -> ir.Node:
    """A new node with one output of the first input's shape; the caller inserts it into the graph."""
    node = ir.node(op, inputs, attributes or {}, num_outputs=1, name=fresh_name(graph, wanted))
    (output,) = node.outputs
    output.name, output.dtype = fresh_name(graph, f"{wanted}_output"), dtype
    output.shape = inputs[0].shape.copy() if inputs[0].shape is not None else None
    return node


def reroute(
    value: ir.Value, replacement: ir.Value, consumers: Iterable[ir.Node] | None, keep: Iterable[ir.Node] = ()
) -> None:
    """Let ``consumers`` (all, if None; never those in ``keep``) read ``replacement`` instead of ``value``.

    A graph output is not changed.
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
    """Insert ``nodes`` after the producer of ``source`` and before all its readers, which keeps the graph sorted."""
    producer = source.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    elif len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend(nodes)
