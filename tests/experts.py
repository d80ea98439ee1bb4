"""A small mixture of experts: a router, and experts whose weights are one tensor."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.testing.oracle import parse

EXPERTS, WIDTH, HIDDEN, TOKENS, CHOSEN = 4, 8, 6, 5, 2

_WEIGHTS = {
    "wr": (WIDTH, EXPERTS),
    "rb": (EXPERTS,),
    "w1": (EXPERTS, WIDTH, HIDDEN),
    "b1": (EXPERTS, 1, HIDDEN),
    "w2": (EXPERTS, HIDDEN, WIDTH),
    "b2": (EXPERTS, 1, WIDTH),
    "wo": (WIDTH, 3),
}
_MASK = "v, i = TopK<axis = -1>(p, k) m = ScatterElements<axis = -1>(zeros, i, ones) q = Mul(p, m) "
_DENSE = (
    "t = Transpose<perm = [0, 2, 1]>(w) u = Unsqueeze(t, three) e = Unsqueeze(x, first) a1 = MatMul(e, w1) "
    "a = Add(a1, b1) h = Relu(a) c1 = MatMul(h, w2) c = Add(c1, b2) y = Mul(c, u) "
    "z = ReduceSum<keepdims = 0>(y, first) "
)
_EINSUM = (
    'a = Einsum<equation = "btd,edh->bteh">(x, w1) h = Relu(a) z = Einsum<equation = "bteh,ehd,bte->btd">(h, w2, w) '
)


def mixture(*, sparse: bool = True, einsum: bool = False) -> ir.Model:
    """The model; with ``sparse`` each token takes the best experts alone, with ``einsum`` no expert has outputs."""
    zeros, ones = ",".join("0" * TOKENS * EXPERTS), ",".join("1" * TOKENS * CHOSEN)
    constants = (
        f"int64[1] k = {{{CHOSEN}}}, float[1,{TOKENS},{EXPERTS}] zeros = {{{zeros}}}, "
        f"float[1,{TOKENS},{CHOSEN}] ones = {{{ones}}}, int64[1] last = {{2}}, int64[1] first = {{1}}, "
        "int64[1] three = {3}"
    )
    chosen = _MASK if sparse else "q = Identity(p) "
    batch = 1 if sparse else "N"
    text = f"""g (float[{batch},{TOKENS},{WIDTH}] x) => (float[{batch},{TOKENS},3] out) <{constants}> {{
    l1 = MatMul(x, wr) l = Add(l1, rb) p = Softmax<axis = -1>(l) {chosen}
    s = ReduceSum(q, last) w = Div(q, s) {_EINSUM if einsum else _DENSE} out = MatMul(z, wo) }}"""
    used = {n: s for n, s in _WEIGHTS.items() if not einsum or n not in ("b1", "b2")}
    return parse(text, **used)


def without(model: ir.Model, experts: list[int]) -> ir.Model:
    """The same model in which the router never chooses these experts."""
    copy = ir.serde.deserialize_model(ir.serde.serialize_model(model))
    bias = copy.graph.initializers["rb"]
    assert bias.const_value is not None
    changed = bias.const_value.numpy().copy()
    changed[experts] = -1e9
    bias.const_value = ir.tensor(np.asarray(changed, np.float32), name="rb")
    return copy
