"""Small random vision transformers as ONNX graphs, and the same in NumPy, with tokens that leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from scipy.special import erf

from edgeprune.passes.tokens import TokenSetting
from edgeprune.testing.oracle import canonical

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Vit:
    """A transformer whose input is its tokens; the sums are named ``attended0``, ``block0``, ``attended1``, ...

    Attributes:
        seed: of the weights.
        end: ``class``, ``distilled`` (two class tokens), ``mean``, ``rest`` (mean without the class token), ``pool``.
        fused: whether attention is one operator.
        batch: of the input; None if it is open.
    """

    seed: int = 0
    tokens: int = 13
    depth: int = 2
    heads: int = 2
    width: int = 8
    end: str = "class"
    fused: bool = False
    batch: int | None = 1
    weights: dict[str, Array] = field(default_factory=dict, hash=False, compare=False)

    def weight(self, name: str) -> Array:
        """A random weight, the same for the same name: ``kind`` and number of the layer."""
        c = self.width
        shapes: dict[str, tuple[int, ...]] = {"a": (c, 2 * c), "b": (2 * c, c), "n": (c,), "m": (c,), "f": (c,)}
        shape = shapes.get(name[0], (c, c))
        if name not in self.weights:
            rng = np.random.default_rng([self.seed, *map(ord, name)])
            scale = 0.2 if len(shape) == 1 else shape[0] ** -0.5
            self.weights[name] = (len(shape) == 1) + scale * rng.standard_normal(shape)
        return self.weights[name]

    def model(self) -> ir.Model:
        """The canonical model."""
        graph = _Graph(self)
        x = graph.op("Mul", "input", graph.put("one", np.ones(1)))
        for k in range(self.depth):
            x = graph.op("Add", x, graph.attention(graph.norm(x, f"n{k}"), k), to=f"attended{k}")
            y = graph.op("Erf", graph.linear(graph.norm(x, f"m{k}"), f"a{k}"))
            x = graph.op("Add", x, graph.linear(y, f"b{k}"), to=f"block{k}")
        y = graph.op("Mul", graph.end(graph.norm(x, "f")), graph.put("two", np.full(1, 2.0)), to="output")
        return graph.model(y)

    def run(self, x: Array, leave: Mapping[str, int], setting: TokenSetting, protected: int) -> Array:
        """The output in NumPy, where tokens leave at sums by name."""
        sizes = np.ones((*x.shape[:2], 1))
        for k in range(self.depth):
            x = x + self._attention(_norm(x, self.weight(f"n{k}")), sizes, k)
            x, sizes = reduced(x, sizes, leave.get(f"attended{k}", 0), setting, protected)
            x = x + erf(_norm(x, self.weight(f"m{k}")) @ self.weight(f"a{k}")) @ self.weight(f"b{k}")
            x, sizes = reduced(x, sizes, leave.get(f"block{k}", 0), setting, protected)
        x = _norm(x, self.weight("f"))
        if self.end == "class":
            return 2 * x[:, 0]
        if self.end == "distilled":
            return 2 * np.concatenate([x[:, 0], x[:, 1]], axis=-1)
        first = self.end == "rest"
        x, sizes = x[:, first:], sizes[:, first:]
        return np.asarray(2 * (x * sizes).sum(1) / sizes.sum(1))

    def _attention(self, x: Array, sizes: Array, k: int) -> Array:
        n, t, c = x.shape
        q, key, v = (
            (x @ self.weight(f"{part}{k}")).reshape(n, t, self.heads, -1).transpose(0, 2, 1, 3) for part in "qkv"
        )
        scores = np.exp(q @ key.transpose(0, 1, 3, 2) / np.sqrt(c // self.heads)) * sizes[:, None, None, :, 0]
        y = (scores / scores.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(n, t, c)
        return np.asarray(y @ self.weight(f"o{k}"))


def reduced(x: Array, sizes: Array, leave: int, setting: TokenSetting, protected: int) -> tuple[Array, Array]:
    """Tokens and sizes after a step, sample by sample and token by token."""
    if not leave:
        return x, sizes
    rest = range(protected, x.shape[1])
    partners = [i for k, i in enumerate(rest) if k % setting.stride == setting.stride - 1]
    others = [i for i in rest if i not in partners]
    samples, counts = [], []
    for tokens, size in zip(x, sizes, strict=True):
        unit = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
        similar = {i: (max((unit[i] @ unit[j], -j) for j in partners)) for i in others}
        ordered = sorted(others, key=lambda i: -similar[i][0])
        leaving, staying = ordered[:leave], ordered[leave:]
        tokens, size = tokens * size, size.copy()
        for i in leaving if setting.merges else ():
            tokens[-similar[i][1]] += tokens[i]
            size[-similar[i][1]] += size[i]
        stay = [*range(protected), *(staying if setting.merges else reversed(staying)), *partners]
        samples.append(tokens[stay] / size[stay])
        counts.append(size[stay])
    return np.stack(samples), np.stack(counts)


def _norm(x: Array, scale: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale)


class _Graph:
    """Writes the nodes of a transformer."""

    def __init__(self, vit: Vit) -> None:
        self.vit, self.opset = vit, 23 if vit.fused else 17
        self.nodes: list[onnx.NodeProto] = []
        self.numbers: dict[str, NDArray[np.generic]] = {}

    def op(self, kind: str, *inputs: str, to: str = "", **attributes: object) -> str:
        name = to or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def put(self, name: str, array: NDArray[np.generic]) -> str:
        self.numbers[name] = np.asarray(array, np.float32)
        return name

    def ints(self, *values: int) -> str:
        name = "i" + "_".join(map(str, values))
        self.numbers[name] = np.asarray(values, np.int64)
        return name

    def linear(self, x: str, name: str) -> str:
        return self.op("MatMul", x, self.put(name, self.vit.weight(name)))

    def norm(self, x: str, name: str) -> str:
        return self.op("LayerNormalization", x, self.put(name, self.vit.weight(name)), axis=-1)

    def attention(self, x: str, k: int) -> str:
        vit = self.vit
        h, d = vit.heads, vit.width // vit.heads
        q, key, v = (self.linear(x, f"{part}{k}") for part in "qkv")
        if vit.fused:
            return self.linear(self.op("Attention", q, key, v, q_num_heads=h, kv_num_heads=h), f"o{k}")
        heads = [self.op("Reshape", z, self.ints(0, 0, h, d)) for z in (q, key, v)]
        q, key, v = (self.op("Transpose", z, perm=perm) for z, perm in zip(heads, _PERMUTATIONS, strict=True))
        q = self.op("Mul", q, self.put("scale", np.array(d**-0.5)))
        y = self.op("MatMul", self.op("Softmax", self.op("MatMul", q, key), axis=-1), v)
        y = self.op("Transpose", y, perm=[0, 2, 1, 3])
        return self.linear(self.op("Reshape", y, self.ints(vit.batch or -1, vit.tokens, vit.width)), f"o{k}")

    def end(self, x: str) -> str:
        end = self.vit.end
        if end in ("class", "distilled"):
            self.numbers.update(first=np.zeros((), np.int64), second=np.ones((), np.int64))
            chosen = [self.op("Gather", x, name, axis=1) for name in ("first", "second")[: 1 + (end == "distilled")]]
            return chosen[0] if end == "class" else self.op("Concat", *chosen, axis=-1)
        if end == "pool":
            pooled = self.op("GlobalAveragePool", self.op("Transpose", x, perm=[0, 2, 1]))
            return self.op("Squeeze", pooled, self.ints(2))
        if end == "rest":
            x = self.op("Slice", x, self.ints(1), self.ints(2**31 - 1), self.ints(1))
        if self.opset < 18:
            return self.op("ReduceMean", x, axes=[1], keepdims=0)
        return self.op("ReduceMean", x, self.ints(1), keepdims=0)

    def model(self, output: str) -> ir.Model:
        vit = self.vit
        shape = [vit.batch or "batch", vit.tokens, vit.width]
        given = helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)
        made = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
        used = {name for node in self.nodes for name in node.input}
        weights = [numpy_helper.from_array(array, name) for name, array in self.numbers.items() if name in used]
        graph = helper.make_graph(self.nodes, "vit", [given], [made], weights)
        opset = helper.make_opsetid("", self.opset)
        return canonical(helper.make_model(graph, opset_imports=[opset], ir_version=10 if vit.fused else 8))


_PERMUTATIONS = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
