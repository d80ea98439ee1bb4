"""An ONNX graph as a `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from edgeprune.errors import ModelError
from edgeprune.executor import (
    convolution,
    elementwise,
    indexing,
    matmul,
    norms,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    shapes,
)
from edgeprune.executor.fusion import find_fusions
from edgeprune.executor.program import Program, Recorder
from edgeprune.executor.registry import TYPES, Kernel, Tensor, operator_of

TABLES = (
    convolution, elementwise, indexing, matmul, norms, pooling, quantization, recurrent, reduction, resize, shapes,
)  # fmt: skip
"""The modules that fill the table of operators when they are imported."""

PROGRAMS = 16
"""Programs that are kept, one for each set of shapes and of wanted values."""


def require_supported(model: ir.Model) -> None:
    """Check that every operator of a model is in the table.

    Raises:
        ModelError: with the first operator that is not, and its node.
    """
    for node in model.graph:
        if operator_of(node) is None:
            domain = f"{node.domain}::" if node.domain else ""
            raise ModelError(f"the operator {domain}{node.op_type} of node {node.name!r} cannot be run in PyTorch")


class GraphModule(torch.nn.Module):  # type: ignore[misc]
    """Computes what a graph computes, with gradients for its trained weights.

    Args:
        model: without functions; its opset is 13 or later, or older with the same meaning of its operators.
        trained: names of float initializers that become parameters. All others are constants.
        device: where it is computed.

    Raises:
        ModelError: an operator is not in the table.
    """

    def __init__(self, model: ir.Model, trained: Collection[str] = (), device: Any = "cpu") -> None:
        super().__init__()
        require_supported(model)
        self.graph, self.opset = model.graph, int(model.opset_imports.get("", 1))
        self.device = torch.device(device)
        self._values = _named_values(model.graph)
        self._constants: dict[str, Tensor] = {}
        self._prepared: dict[str, tuple[tuple[str, ...], Kernel]] = {}
        self._programs: dict[Any, Program] = {}
        self.names: list[str] = []
        self.weights = torch.nn.ParameterList()
        for name, value in model.graph.initializers.items():
            tensor = tensor_of(value)
            if name in set(trained):
                self.add_parameter(name, tensor.float())
                dtype = tensor.dtype
                self._prepared[name] = (name,), (_same if dtype == torch.float32 else _cast(dtype))
            else:
                self._constants[name] = tensor

    def add_parameter(self, name: str, tensor: Tensor) -> None:
        """Register a parameter under the name of an initializer."""
        if tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        self.names.append(name)
        self.weights.append(torch.nn.Parameter(tensor.to(self.device)))

    def prepare(self, initializer: str, names: Sequence[str], run: Kernel) -> None:
        """Compute an initializer from parameters in every run."""
        self._constants.pop(initializer, None)
        self._prepared[initializer] = tuple(names), run
        self._programs.clear()

    @property
    def named_weights(self) -> dict[str, Tensor]:
        """Initializer name -> parameter."""
        return dict(zip(self.names, self.weights, strict=True))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the graph's outputs."""
        return tuple(str(v.name) for v in self.graph.outputs)

    def forward(self, feeds: Mapping[str, Tensor], wanted: Sequence[str] | None = None) -> dict[str, Tensor]:
        """The graph's outputs, or other values of it, by name.

        Args:
            feeds: input name -> tensor on the device.
            wanted: names of values; by default the outputs.
        """
        names = tuple(wanted) if wanted is not None else self.output_names
        given = {**feeds, **self.named_weights}
        key = (
            tuple((n, tuple(x.shape), x.dtype) for n, x in feeds.items()),
            names,
            torch.is_autocast_enabled(self.device.type),
        )
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = self._record(given, names)
            while len(self._programs) > PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
        return program.run(given)

    def _record(self, given: Mapping[str, Tensor], names: Sequence[str]) -> Program:
        if missing := [n for n in names if n not in self._values]:
            raise ModelError(f"the graph has no value {missing[0]!r}")
        wanted = [self._values[n] for n in names]
        fusions = find_fusions(self.graph, set(wanted))
        recorder = Recorder(self.graph, self.opset, self.device, self._constants, self._prepared, fusions)
        return recorder.record(given, wanted)

    def run(self, feeds: Mapping[str, NDArray[Any]], wanted: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """The same for arrays, without gradients."""
        with torch.no_grad():
            tensors = {n: _tensor(x).to(self.device) for n, x in feeds.items()}
            return {n: x.float().cpu().numpy() if x.dtype == torch.bfloat16 else x.cpu().numpy()
                    for n, x in self(tensors, wanted).items()}  # fmt: skip


def tensor_of(value: ir.Value) -> Tensor:
    """An initializer as a tensor on the host.

    Raises:
        ModelError: its type has no counterpart in PyTorch.
    """
    assert value.const_value is not None
    dtype = value.const_value.dtype
    if dtype not in TYPES and dtype not in (ir.DataType.INT4, ir.DataType.UINT4):
        raise ModelError(f"the initializer {value.name!r} has the type {dtype}, which PyTorch cannot compute with")
    array = value.const_value.numpy()
    if dtype == ir.DataType.BFLOAT16:
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return _tensor(array.astype(np.int64) if dtype in (ir.DataType.INT4, ir.DataType.UINT4) else array)


def _tensor(array: NDArray[Any]) -> Tensor:
    """An array as a tensor that PyTorch computes with, which shares no memory with it."""
    return torch.from_numpy(np.array(array, np.int64 if array.dtype.kind == "u" and array.itemsize > 1 else None))


def _named_values(graph: ir.Graph) -> dict[str, ir.Value]:
    values = [*graph.inputs, *graph.initializers.values(), *(o for node in graph for o in node.outputs)]
    return {str(v.name): v for v in values if v.name}


def _same(x: Tensor) -> Tensor:
    return x


def _cast(dtype: Any) -> Kernel:
    return lambda x: x.to(dtype)
