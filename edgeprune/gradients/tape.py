"""The tape on which gradient rules append their nodes, and the registry of the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import add_initializer, fresh_name, input_at, static_shape

Shape: TypeAlias = "tuple[int, ...]"
InputGradients: TypeAlias = "Sequence[ir.Value | None]"
"""One gradient for each input of a node, or None; Nones at the end may be omitted."""

PREFIX = "gradient"
"""Prefix of the names that a tape gives, followed by a number if the prefix is used."""


class Unsupported(Exception):  # noqa: N818 - caught where gradients stop, never shown as an error
    """A rule does not support this use of its operator; the text says why."""


class Tape:
    """Appends nodes to a graph; all values of the graph have static shapes."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._prefix = fresh_name(graph, PREFIX)
        self._count = 0
        self._constants: dict[tuple[bytes, tuple[int, ...], str], ir.Value] = {}

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}_{self._count}"

    def made(self, node: ir.Node) -> bool:
        """Whether this tape appended the node."""
        return str(node.name).startswith(f"{self._prefix}_")

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Append a node with one output."""
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def ops(self, op_type: str, outputs: int, *inputs: ir.Value | None, **attributes: Any) -> tuple[ir.Value, ...]:
        """Append a node with several outputs."""
        node = ir.node(op_type, list(inputs), attributes, num_outputs=outputs, name=self._name())
        for value in node.outputs:
            value.name = self._name()
        self.graph.append(node)
        return tuple(node.outputs)

    def constant(self, array: NDArray[Any] | Sequence[int] | int | float, dtype: Any = None) -> ir.Value:
        """A constant: integers become int64, other numbers float32, unless ``dtype`` says otherwise."""
        values = np.asarray(array)
        if dtype is None:
            dtype = np.int64 if values.dtype.kind in "iu" or not values.size else np.float32
        values = np.ascontiguousarray(values.astype(dtype)).reshape(values.shape)
        key = (values.tobytes(), values.shape, values.dtype.str)
        if key not in self._constants:
            self._constants[key] = add_initializer(self.graph, self._name(), values)
        return self._constants[key]

    def zeros(self, shape: Sequence[int]) -> ir.Value:
        """A tensor of zeros, computed at run time."""
        return self.op("ConstantOfShape", self.constant([int(s) for s in shape]))

    def scaled(self, x: ir.Value, factor: float) -> ir.Value:
        """X times a number."""
        return x if factor == 1 else self.op("Mul", x, self.constant(float(factor)))

    def reshaped(self, x: ir.Value, shape: Sequence[int]) -> ir.Value:
        """X in another shape."""
        return self.op("Reshape", x, self.constant([int(s) for s in shape]))

    def transposed(self, x: ir.Value, order: Sequence[int]) -> ir.Value:
        """X with its axes in another order."""
        return self.op("Transpose", x, perm=[int(axis) for axis in order])

    def sliced(
        self,
        x: ir.Value,
        starts: Sequence[int],
        ends: Sequence[int],
        axes: Sequence[int],
        steps: Sequence[int] | None = None,
    ) -> ir.Value:
        """X cut along axes."""
        bounds = (starts, ends, axes, *([] if steps is None else [steps]))
        return self.op("Slice", x, *(self.constant(list(values)) for values in bounds))

    def scattered(self, x: ir.Value, flat: ir.Value, shape: Shape) -> ir.Value:
        """A tensor of this shape with the values of x at flat positions; values for one position are added."""
        zeros = self.zeros([int(np.prod(shape))])
        given = self.reshaped(x, (-1,))
        return self.reshaped(self.op("ScatterElements", zeros, flat, given, axis=0, reduction="add"), shape)

    def summed(self, x: ir.Value, axes: Sequence[int], *, keep: bool = False) -> ir.Value:
        """X summed over axes; x itself if there are none."""
        return self.op("ReduceSum", x, self.constant(list(axes)), keepdims=int(keep)) if axes else x

    def mean(self, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """The mean of x over axes, which stay with size 1."""
        if self.graph.opset_imports.get("", 0) >= 18:
            return self.op("ReduceMean", x, self.constant(list(axes)), keepdims=1)
        return self.op("ReduceMean", x, axes=list(axes), keepdims=1)

    def summed_to(self, x: ir.Value, present: Shape, wanted: Shape) -> ir.Value:
        """The adjoint of broadcasting ``wanted`` to ``present``."""
        if present == wanted:
            return x
        lead = len(present) - len(wanted)
        axes = [a for a, size in enumerate(present) if a < lead or (wanted[a - lead] == 1 and size != 1)]
        total = self.summed(x, axes, keep=True)
        return self.reshaped(total, wanted) if lead else total


@dataclass(frozen=True)
class Call:
    """One node whose gradient is needed.

    Attributes:
        tape: appends the nodes of the gradient.
        node: a node of the forward network.
        dy: gradient of each output, or None; at least one is given.
        wanted: for each input, whether its gradient is needed.
    """

    tape: Tape
    node: ir.Node
    dy: tuple[ir.Value | None, ...]
    wanted: tuple[bool, ...]

    def x(self, index: int) -> ir.Value:
        """An input that must be present."""
        value = self.node.inputs[index]
        assert value is not None, self.node.name
        return value

    def wants(self, index: int) -> bool:
        """Whether the gradient of an input is needed, which may be absent."""
        return index < len(self.wanted) and self.wanted[index]

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    @property
    def first_dy(self) -> ir.Value:
        """The first output's gradient. Raises Unsupported if another output has one."""
        if self.dy[0] is None or any(d is not None for d in self.dy[1:]):
            raise Unsupported(f"{self.node.op_type} has several outputs with a gradient")
        return self.dy[0]

    def shape(self, value: ir.Value) -> Shape:
        """The static shape of a value. Raises Unsupported if it has none."""
        if (shape := static_shape(value)) is None:
            raise Unsupported(f"the shape of {value.name!r} is not known")
        return shape

    def constant(self, index: int) -> NDArray[Any] | None:
        """The array of a constant input; None if the input is absent. Raises Unsupported if it is computed."""
        value = input_at(self.node, index)
        if value is None:
            return None
        if value.const_value is None:
            raise Unsupported(f"{self.node.op_type}'s input {value.name!r} is computed")
        return value.const_value.numpy()

    def axis(self, name: str, default: int, rank: int) -> int:
        """An axis attribute, counted from the front."""
        return self.node.attributes.get_int(name, default) % max(1, rank)


Rule = Callable[[Call], InputGradients]
RULES: dict[str, Rule] = {}
"""Operator of the default domain -> its gradient rule."""


def gradient(*op_types: str) -> Callable[[Rule], Rule]:
    """Register a rule for these operators."""

    def register(rule: Rule) -> Rule:
        for op_type in op_types:
            RULES[op_type] = rule
        return rule

    return register
