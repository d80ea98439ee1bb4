"""A builder of random graphs: it adds nodes with random weights and keeps the shape of every tensor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Step = Callable[["Builder", str], str]


class Builder:
    """Adds nodes to a graph; ``shape`` has the shape of every tensor.

    Args:
        rng: for the weights and all choices; open axes do not change what is drawn.
        open_axes: axes of the first input, an image, that are open: 0 for the batch, 2 and 3 for height and width.
            Targets of Reshape, Expand and Resize are then computed from its shape.
    """

    def __init__(self, rng: np.random.Generator, open_axes: Collection[int] = ()) -> None:
        self.rng = rng
        self.open_axes = frozenset(open_axes)
        self._numbers = itertools.count()
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape: dict[str, tuple[int, ...]] = {}
        self.inputs: list[onnx.ValueInfoProto] = []

    def input(self, shape: Sequence[int]) -> str:
        """A graph input."""
        name = f"input{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, self._opened(shape)))
        self.shape[name] = tuple(shape)
        return name

    def weight(self, *shape: int, scale: float | None = None, offset: float = 0.0) -> str:
        """A random weight, by default scaled to its fan-in."""
        fan_in = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 4
        array = self.rng.standard_normal(shape) * (scale if scale is not None else fan_in**-0.5) + offset
        return self.constant(array.astype(np.float32))

    def constant(self, array: NDArray[Any] | Sequence[int] | float) -> str:
        """An initializer; plain integers become int64."""
        dtype = None if isinstance(array, np.ndarray) else np.float32 if isinstance(array, float) else np.int64
        given = np.asarray(array, dtype=dtype)
        name = f"w{next(self._numbers)}"
        self.weights.append(numpy_helper.from_array(given, name))
        self.shape[name] = given.shape
        return name

    def op(self, op: str, *inputs: str, shape: Sequence[int] | None = None, **attributes: Any) -> str:
        """A node with one output, by default with the shape of the first input."""
        return self.several(op, inputs, [shape if shape is not None else self.shape[inputs[0]]], **attributes)[0]

    def several(self, op: str, inputs: Sequence[str], shapes: Sequence[Sequence[int]], **attributes: Any) -> list[str]:
        """A node with several outputs."""
        number = next(self._numbers)
        names = [f"v{number}_{k}" for k in range(len(shapes))]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        self.shape.update({n: tuple(s) for n, s in zip(names, shapes, strict=True)})
        return names

    def choice(self, items: Sequence[Any]) -> Any:
        """A random item."""
        return items[int(self.rng.integers(len(items)))]

    def reshape(self, x: str, *shape: int, like: str = "") -> str:
        """A Reshape to a constant target, or to one with the open lengths of ``like``, by default of ``x``."""
        return self.op("Reshape", x, self.target(*shape, like=like or x), shape=shape)

    def target(self, *shape: int, like: str) -> str:
        """A shape as a tensor: a constant, or its open lengths computed from the shape of another tensor.

        The first axis is the batch; the last two of four or more axes are height and width if they have their lengths.
        """
        name = self.constant(list(shape))
        sources = {0: 0} if 0 in self.open_axes else {}
        if self.open_axes & {2, 3} and len(shape) >= 4 and shape[-2:] == self.shape["input0"][2:]:
            sources |= {len(shape) - k: len(self.shape[like]) - k for k in (1, 2)}
        elif self.open_axes & {2, 3} and len(shape) == 3:
            self.weights[-1] = numpy_helper.from_array(np.asarray([*shape[:2], -1], np.int64), name)
        if not sources:
            return name
        parts = [f"{name}_{k}" for k in range(len(shape))]
        self.nodes.append(helper.make_node("Shape", [like], [f"{name}_lengths"]))
        for k, part in enumerate(parts):
            data, at = (f"{name}_lengths", sources[k]) if k in sources else (name, k)
            self.weights.append(numpy_helper.from_array(np.asarray([at], np.int64), f"{part}_at"))
            self.nodes.append(helper.make_node("Gather", [data, f"{part}_at"], [part]))
        self.nodes.append(helper.make_node("Concat", parts, [f"{name}_target"], axis=0))
        return f"{name}_target"

    def _opened(self, shape: Sequence[int]) -> list[int | str]:
        return [f"open{k}" if k in self.open_axes else d for k, d in enumerate(shape)]

    def transpose(self, x: str, *perm: int) -> str:
        """A Transpose."""
        return self.op("Transpose", x, shape=[self.shape[x][p] for p in perm], perm=list(perm))

    def linear(self, x: str, out: int) -> str:
        """A MatMul with bias over the last axis."""
        *rest, width = self.shape[x]
        y = self.op("MatMul", x, self.weight(width, out, scale=width**-0.5), shape=(*rest, out))
        return self.op("Add", y, self.weight(out))

    def conv(self, x: str, out: int, kernel: int = 1, group: int = 1) -> str:
        """A convolution that keeps the size of the image."""
        n, c, h, w = self.shape[x]
        weights = self.weight(out, c // group, kernel, kernel), self.weight(out)
        window = {"pads": [kernel // 2] * 4, "kernel_shape": [kernel] * 2}
        return self.op("Conv", x, *weights, shape=(n, out, h, w), group=group, **window)

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The model, with the given tensors as outputs."""
        shapes = [[f"out{k}" for k in range(len(self.shape[o]))] if self.open_axes else self.shape[o] for o in outputs]
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, s) for o, s in zip(outputs, shapes, strict=True)]
        graph = helper.make_graph(self.nodes, "random", self.inputs, infos, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
