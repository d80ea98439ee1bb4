"""The open axes of inputs, and which axis counts the samples: operators that expect a batch and names tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

import onnx_ir as ir

from edgeprune.graph.edit import ONNX_DOMAINS
from edgeprune.graph.model_io import clone, infer_shapes

BATCH_NAME = re.compile(r"(?i)(.*[_.])?(batch|batch_?size|n_?batch|bs|b|n)(_?\d*|[_.].*)?")
_RECURRENT = ("LSTM", "GRU", "RNN")
_FIRST_AXIS = (
    *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "MaxPool", "AveragePool", "LpPool"),
    *("GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
    *("DepthToSpace", "SpaceToDepth", "GridSample", "LRN"),
)


def data_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that a caller gives: those that are no initializers."""
    return [v for v in model.graph.inputs if not v.is_initializer() and v.name not in model.graph.initializers]


def open_axes(model: ir.Model) -> list[tuple[str, int]]:
    """(input, axis) of every axis whose length the model leaves open."""
    return [
        (value.name or "", axis)
        for value in data_inputs(model)
        for axis, dim in enumerate(value.shape or ())
        if not isinstance(dim, int)
    ]


def batch_axes(model: ir.Model) -> dict[str, int]:
    """Input name -> the axis of its samples; by default the first. A scalar has none.

    Behind the first axis, ``n`` alone may as well count points or words: only a name with the word batch is taken.
    """
    expected = batch_symbols(model)
    axes = {}
    for value in model.graph.inputs:
        dims = tuple(d if isinstance(d, int) else None for d in value.shape or ())
        symbols = [symbol_of(value, axis) for axis in range(len(dims))]
        axis = batch_axis_of(
            dims, [s if not a or _is_certain(s, expected) else "" for a, s in enumerate(symbols)], expected
        )
        if axis is not None:
            axes[value.name or ""] = axis if _is_certain(symbols[axis], expected) or _is_made_up(symbols[axis]) else 0
    return axes


def _is_certain(symbol: str, expected: frozenset[str]) -> bool:
    return symbol in expected or (not _is_made_up(symbol) and "batch" in symbol.lower())


def _is_made_up(symbol: str) -> bool:
    return symbol.startswith("\0")


def batch_axis_of(shape: Sequence[int | None], symbols: Sequence[str], expected: frozenset[str]) -> int | None:
    """The axis of the samples of an input.

    Args:
        shape: its dimensions; an open one is None.
        symbols: their names, empty for fixed ones; or none at all.
        expected: `batch_symbols` of the model.

    Returns:
        None if the input is a scalar.
    """
    if not shape:
        return None
    told = [axis for axis, symbol in enumerate(symbols) if symbol in expected]
    told = told or [axis for axis, symbol in enumerate(symbols) if BATCH_NAME.fullmatch(symbol)]
    if told:
        return told[0]
    # A fixed first axis of more than one, before a single open axis: time steps or layers before the batch.
    open_axes = [axis for axis, size in enumerate(shape) if size is None]
    return 1 if open_axes == [1] and (shape[0] or 1) > 1 and len(shape) > 2 else 0


def batch_symbols(model: ir.Model) -> frozenset[str]:
    """Names of open sizes that stand where an operator expects its batch; see `symbol_of` for nameless ones."""
    nameless = [(v, a) for v in model.graph.inputs for a, d in enumerate(v.shape or ()) if is_nameless(d)]
    if nameless:
        model = clone(model)
        for value in model.graph.inputs:
            if value.shape is not None:
                value.shape = ir.Shape([symbol_of(value, axis) or d for axis, d in enumerate(value.shape)])
        infer_shapes(model)
    found = set()
    for node in model.graph.all_nodes():
        if node.domain not in ONNX_DOMAINS or not node.inputs or node.inputs[0] is None:
            continue
        axis = 0 if node.op_type in _FIRST_AXIS else None
        if node.op_type in _RECURRENT:
            axis = 0 if node.attributes.get_int("layout", 0) else 1
        shape = node.inputs[0].shape
        if axis is not None and shape is not None and len(shape) > axis:
            dim = shape[axis]
            if isinstance(dim, ir.SymbolicDim) and dim.value:
                found.add(dim.value)
    return frozenset(found)


def is_nameless(dim: int | ir.SymbolicDim) -> bool:
    """Whether a size is open and has no name."""
    return isinstance(dim, ir.SymbolicDim) and not dim.value


def symbol_of(value: ir.Value, axis: int) -> str:
    """The name of an open size of an input, made up with a leading zero byte if it has none; empty for a fixed one."""
    dim = (value.shape or ())[axis]
    return "" if isinstance(dim, int) else dim.value or f"\0{value.name}.{axis}"
