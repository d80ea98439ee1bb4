"""The table of operators: for each, a function that binds a node, and returns what computes its outputs in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx_ir as ir
import torch

Tensor: TypeAlias = Any
"""A `torch.Tensor`; torch is an optional library, without types here."""

Kernel: TypeAlias = Callable[..., Any]
"""Takes the inputs of a node in order, None for those that are absent; returns one tensor, or a tuple of them."""


@dataclass(frozen=True, eq=False)
class Call:
    """A node whose operator is being bound, for given shapes of the network's inputs.

    Attributes:
        node: the node; an absent optional input is None.
        opset: version of the default domain.
        inputs: the values of its inputs while the program is recorded, None for those that are absent.
        constant: for each input, whether its value is the same in every run.
    """

    node: ir.Node
    opset: int
    inputs: tuple[Tensor | None, ...]
    constant: tuple[bool, ...]

    @property
    def attributes(self) -> Mapping[str, ir.Attr]:
        """The node's attributes by name."""
        return self.node.attributes

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        return int(self.node.attributes.get_int(name, default))

    def real(self, name: str, default: float) -> float:
        """A float attribute."""
        return float(self.node.attributes.get_float(name, default))

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        return str(self.node.attributes.get_string(name, default))

    def integers(self, name: str) -> list[int] | None:
        """A list of integers, or None if the attribute is absent."""
        found = self.node.attributes.get(name)
        return None if found is None else [int(i) for i in found.as_ints()]

    def shape(self, index: int) -> tuple[int, ...]:
        """The shape of an input."""
        value = self.inputs[index]
        assert value is not None
        return tuple(value.shape)

    def rank(self, index: int = 0) -> int:
        """The number of axes of an input."""
        return len(self.shape(index))

    def has(self, index: int) -> bool:
        """Whether an optional input is present."""
        return index < len(self.inputs) and self.inputs[index] is not None


@dataclass(frozen=True)
class Operator:
    """An entry of the table.

    Attributes:
        bind: makes the function that computes the outputs.
        host: inputs that are read as numbers, such as the target of a Reshape; they stay in the memory of the host.
        random: whether two runs differ, so that it is never folded.
        unsized: whether the shape of the output depends on the data.
    """

    bind: Callable[[Call], Kernel]
    host: tuple[int, ...] = ()
    random: bool = False
    unsized: bool = False


OPERATORS: dict[tuple[str, str], Operator] = {}
"""(Domain, operator) -> its entry; the modules of the families fill it when they are imported."""


def op(
    *names: str, host: Sequence[int] = (), random: bool = False, unsized: bool = False, domain: str = ""
) -> Callable[[Callable[[Call], Kernel]], Callable[[Call], Kernel]]:
    """Enter a binding function into the table under these operators."""

    def enter(bind: Callable[[Call], Kernel]) -> Callable[[Call], Kernel]:
        for name in names:
            OPERATORS[domain, name] = Operator(bind, tuple(host), random, unsized)
        return bind

    return enter


def operator_of(node: ir.Node) -> Operator | None:
    """The entry of a node's operator, or None."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    return OPERATORS.get((domain, node.op_type))


def ints(value: Tensor) -> list[int]:
    """The integers of a vector, or of a scalar."""
    return [int(i) for i in value.reshape(-1).tolist()]


def axes_of(call: Call, index: int, name: str = "axes") -> Callable[[Tensor | None], list[int] | None]:
    """How to read axes that newer opsets have as an input and older ones as an attribute; None if there are none."""
    given = call.integers(name)
    if given is not None or not call.has(index):
        return lambda _: given
    return lambda value: ints(value)


TYPES: dict[ir.DataType, Any] = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.UINT16: torch.int32,
    ir.DataType.UINT32: torch.int64,
    ir.DataType.UINT64: torch.int64,
    ir.DataType.BOOL: torch.bool,
}
"""The type that holds an ONNX type; PyTorch computes with the larger unsigned ones only as signed ones."""
