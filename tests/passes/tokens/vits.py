"""Small random vision transformers as ONNX graphs, and the same in NumPy, with tokens that leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from scipy.special import erf

from edgeprune.passes.tokens import TokenSetting
from edgeprune.testing.oracle import canonical

Array = NDArray[np.float64]
DENSE = ("tokens", "grid", "taps", "rows")
"""Ends that need all tokens."""


@dataclass(frozen=True)
class Vit:
    """A transformer whose input is its tokens; the sums are named ``attended0``, ``block0``, ``attended1``, ...

    Attributes:
        seed: of the weights.
        end: ``class``, ``distilled`` (two class tokens), ``mean``, ``rest`` (mean without the class token) or ``pool``;
            or what needs all tokens: ``tokens`` (they are the output), ``grid`` (a convolution over those without the
            class token), ``taps`` (those of the first block beside the last ones), ``rows`` (one axis with samples).
        position: what each attention knows of positions: ``none``, ``bias`` (a constant for each pair of tokens),
            ``rotary`` (queries and keys are turned by their positions). Or ``talking``: heads mix their probabilities.
        fused: whether attention is one operator.
        batch: of the input; None if it is open.
    """

    seed: int = 0
    tokens: int = 13
    depth: int = 2
    heads: int = 2
    width: int = 8
    end: str = "class"
    position: str = "none"
    fused: bool = False
    batch: int | None = 1
    weights: dict[str, Array] = field(default_factory=dict, hash=False, compare=False)

    def weight(self, name: str) -> Array:
        """A random weight, the same for the same name: ``kind`` and number of the layer."""
        c = self.width
        shapes: dict[str, tuple[int, ...]] = {
            "a": (c, 2 * c),
            "b": (2 * c, c),
            "n": (c,),
            "m": (c,),
            "f": (c,),
            "p": (self.heads, self.tokens, self.tokens),
            "z": (self.heads, self.heads),
        }
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
        count = x.shape[1]
        state = State(x, np.ones((*x.shape[:2], 1)), *[np.tile(np.arange(count), (len(x), 1))] * 2)
        later, first = range(1, self.depth), x
        rising = not setting.merges and not setting.background and self.end not in DENSE
        for k in range(self.depth):
            state = replace(state, x=state.x + self._attention(_norm(state.x, self.weight(f"n{k}")), state, k))
            state = reduced(state, leave.get(f"attended{k}", 0), setting, protected, rising=rising)
            hidden = erf(_norm(state.x, self.weight(f"m{k}")) @ self.weight(f"a{k}"))
            state = replace(state, x=state.x + hidden @ self.weight(f"b{k}"))
            before = state.all()
            state = reduced(state, leave.get(f"block{k}", 0), setting, protected, rising=rising)
            if k == 0:  # joined with fewer tokens later, it is read as it was before the step
                first = (
                    before if any(leave.get(f"{n}{j}") for j in later for n in ("attended", "block")) else state.all()
                )
        state = replace(state, x=_norm(state.x, self.weight("f")))
        x, sizes = state.x, state.sizes
        if self.end in DENSE:
            return np.asarray(2 * self._dense(state.all(), first))
        if self.end == "class":
            return 2 * x[:, 0]
        if self.end == "distilled":
            return 2 * np.concatenate([x[:, 0], x[:, 1]], axis=-1)
        first = self.end == "rest"
        x, sizes = x[:, first:], sizes[:, first:]
        return np.asarray(2 * (x * sizes).sum(1) / sizes.sum(1))

    def _dense(self, x: Array, first: Array) -> Array:
        if self.end == "taps":
            return np.concatenate([first, x], axis=-1)
        if self.end == "rows":
            return np.asarray(x.reshape(-1, self.width) @ self.weight("head"))
        if self.end == "grid":
            maps = (x[:, 1:] @ self.weight("head").T).transpose(0, 2, 1)
            return np.asarray(maps.reshape(len(x), self.width, self.lines, -1))
        return x

    @property
    def lines(self) -> int:
        """Of the grid of tokens."""
        return 1 + self.tokens % 2

    def _attention(self, x: Array, state: State, k: int) -> Array:
        n, t, c = x.shape
        q, key, v = (
            (x @ self.weight(f"{part}{k}")).reshape(n, t, self.heads, -1).transpose(0, 2, 1, 3) for part in "qkv"
        )
        if self.position == "rotary":
            cos, sin = (table[state.origin][:, None] for table in self.angles)
            q, key = (np.concatenate([a * cos - b * sin, b * cos + a * sin], -1) for a, b in map(_halves, (q, key)))
        scores = q @ key.transpose(0, 1, 3, 2) / np.sqrt(c // self.heads)
        if self.position == "bias":
            bias = self.weight(f"p{k}")
            scores = scores + np.stack([bias[:, o][:, :, o] for o in state.origin])
        scores = np.exp(scores) * state.sizes[:, None, None, :, 0]
        probabilities = scores / scores.sum(-1, keepdims=True)
        if self.position == "talking":
            probabilities = np.einsum("nhqk,hg->ngqk", probabilities, self.weight(f"z{k}"))
        y = (probabilities @ v).transpose(0, 2, 1, 3).reshape(n, t, c)
        return np.asarray(y @ self.weight(f"o{k}"))

    @property
    def angles(self) -> tuple[Array, Array]:
        """Cosine and sine of the angle of every token and pair, shape (tokens, half of a head)."""
        half = self.width // self.heads // 2
        turns = np.arange(self.tokens)[:, None] / 3.0 ** np.arange(half)
        return np.cos(turns), np.sin(turns)


@dataclass(frozen=True, eq=False)
class State:
    """Tokens on their way.

    Attributes:
        x: shape (batch, tokens, channels).
        sizes: of how many patches each is the mean, shape (batch, tokens, 1).
        where: for every token of the model the position of the one that stands in for it, shape (batch, all tokens).
        origin: for every token its position in the model, shape (batch, tokens).
    """

    x: Array
    sizes: Array
    where: NDArray[np.int64]
    origin: NDArray[np.int64]

    def all(self) -> Array:
        """For every token of the model the one that stands in for it."""
        return np.stack([tokens[stands] for tokens, stands in zip(self.x, self.where, strict=True)])


def _halves(x: Array) -> tuple[Array, Array]:
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def reduced(state: State, leave: int, setting: TokenSetting, protected: int, *, rising: bool) -> State:
    """The tokens after a step, sample by sample and token by token."""
    if not leave:
        return state
    rest = range(protected, state.x.shape[1])
    partners = [i for k, i in enumerate(rest) if k % setting.stride == setting.stride - 1]
    if setting.background:
        partners = []
    others = [i for i in rest if i not in partners]
    samples, counts, places, origins = [], [], [], []
    for tokens, size, stands, origin in zip(state.x, state.sizes, state.where, state.origin, strict=True):
        unit = tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)
        if setting.background:
            likeness = unit @ unit[0] if protected else -unit @ unit.mean(0)
            ordered = sorted(others, key=lambda i: likeness[i])
            partners = ordered[leave:]
        similar = {i: (max((unit[i] @ unit[j], -j) for j in partners)) for i in others}
        if not setting.background:
            ordered = sorted(others, key=lambda i: -similar[i][0])
        leaving, staying = ordered[:leave], ordered[leave:]
        tokens, size = tokens * size, size.copy()
        for i in leaving if setting.merges else ():
            tokens[-similar[i][1]] += tokens[i]
            size[-similar[i][1]] += size[i]
        stay = [
            *range(protected),
            *(reversed(staying) if rising else staying),
            *(() if setting.background else partners),
        ]
        behind = {i: stay.index(i) for i in stay} | {i: stay.index(-similar[i][1]) for i in leaving}
        samples.append(tokens[stay] / size[stay])
        counts.append(size[stay])
        places.append([behind[int(i)] for i in stands])
        origins.append(origin[stay])
    return State(np.stack(samples), np.stack(counts), np.array(places), np.stack(origins))


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
        bias = self.put(f"p{k}", vit.weight(f"p{k}")) if vit.position == "bias" else ""
        if vit.fused:
            if vit.position == "rotary":
                tables = [self.put(name, t[None]) for name, t in zip(("cos", "sin"), vit.angles, strict=True)]
                q, key = (self.op("RotaryEmbedding", z, *tables, num_heads=h) for z in (q, key))
            mask = [self.put(f"m{k}_", vit.weight(f"p{k}")[None])] if bias else []
            return self.linear(self.op("Attention", q, key, v, *mask, q_num_heads=h, kv_num_heads=h), f"o{k}")
        heads = [self.op("Reshape", z, self.ints(0, 0, h, d)) for z in (q, key, v)]
        q, key, v = (self.op("Transpose", z, perm=perm) for z, perm in zip(heads, _PERMUTATIONS, strict=True))
        if vit.position == "rotary":
            q = self.turned(q, -1)
            key = self.op("Transpose", self.turned(self.op("Transpose", key, perm=[0, 1, 3, 2]), -1), perm=[0, 1, 3, 2])
        q = self.op("Mul", q, self.put("scale", np.array(d**-0.5)))
        scores = self.op("MatMul", q, key)
        if bias:
            scores = self.op("Add", scores, bias)
        probabilities = self.op("Softmax", scores, axis=-1)
        if vit.position == "talking":
            last = self.op("Transpose", probabilities, perm=[0, 2, 3, 1])
            probabilities = self.op("Transpose", self.linear(last, f"z{k}"), perm=[0, 3, 1, 2])
        y = self.op("MatMul", probabilities, v)
        y = self.op("Transpose", y, perm=[0, 2, 1, 3])
        return self.linear(self.op("Reshape", y, self.ints(vit.batch or -1, vit.tokens, vit.width)), f"o{k}")

    def turned(self, x: str, axis: int) -> str:
        """Each half of a head, turned with the other one."""
        half = self.vit.width // self.vit.heads // 2
        cos, sin = (np.concatenate([t, t], -1) for t in self.vit.angles)
        low, high = (
            self.op("Slice", x, self.ints(start), self.ints(end), self.ints(axis))
            for start, end in ((0, half), (half, 2 * half))
        )
        swapped = self.op("Concat", self.op("Neg", high), low, axis=axis)
        straight = self.op("Mul", x, self.put("cos2", cos))
        return self.op("Add", straight, self.op("Mul", swapped, self.put("sin2", sin)))

    def end(self, x: str) -> str:
        end, vit = self.vit.end, self.vit
        if end == "tokens":
            return x
        if end == "taps":
            return self.op("Concat", "block0", x, axis=-1)
        if end == "rows":
            return self.linear(self.op("Reshape", x, self.ints(-1, vit.width)), "head")
        if end == "grid":
            rest = self.op("Slice", x, self.ints(1), self.ints(2**31 - 1), self.ints(1))
            wide = self.op("Transpose", rest, perm=[0, 2, 1])
            maps = self.op("Reshape", wide, self.ints(0, vit.width, vit.lines, (vit.tokens - 1) // vit.lines))
            return self.op("Conv", maps, self.put("kernel", vit.weight("head")[:, :, None, None]))
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
