from __future__ import annotations

import numpy as np
import pytest

from edgeprune.graph import model_io as graphs
from edgeprune.graph.edit import remove_dead
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.canonicalize.split_qkv import split_qkv
from edgeprune.passes.verify.equality import relative_error
from tests.passes.models import ops, parse, random, run

TOKENS, HEADS, SIZE, WIDTH = 5, 2, 3, 8
ATTENTION = """
    kt = Transpose<perm=[0, 1, 3, 2]>(k)
    s = MatMul(q, kt)
    p = Softmax<axis=-1>(s)
    o = MatMul(p, v)
    y = Relu(o)
"""
TAKEN = {
    "split": """q1, k1, v1 = Split<axis=0>(t, thirds)
        q = Squeeze(q1, zero)
        k = Squeeze(k1, zero)
        v = Squeeze(v1, zero)""",
    "gather": "q = Gather<axis=0>(t, i0)\n k = Gather<axis=0>(t, i1)\n v = Gather<axis=0>(t, i2)",
    "slice": """q1 = Slice(t, zero, one, zero)
        k1 = Slice(t, one, two, zero)
        v1 = Slice(t, two, three, zero)
        q = Squeeze(q1, zero)
        k = Squeeze(k1, zero)
        v = Squeeze(v1, zero)""",
}
INDICES = {
    "thirds": np.array([1, 1, 1], np.int64),
    **{f"i{k}": np.array(k, np.int64) for k in range(3)},
    **{name: np.array([k], np.int64) for k, name in enumerate(("zero", "one", "two", "three"))},
}
FACTORED = np.array([0, TOKENS, 3, HEADS, -1], np.int64)


def projections(text: str) -> str:
    return f"g (float[batch,{TOKENS},{WIDTH}] x) => (float[batch,{HEADS},{TOKENS},{SIZE}] y) {{ {text} }}"


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("bias", [True, False])
def test_a_fused_projection(taken: str, bias: bool) -> None:
    text = projections(f"""h0 = MatMul(x, w)
        h = {"Add(c, h0)" if bias else "Identity(h0)"}
        r = Reshape(h, factored)
        t = Transpose<perm=[2, 0, 3, 1, 4]>(r)
        {TAKEN[taken]} {ATTENTION}""")
    weights = {"w": random(WIDTH, 3 * HEADS * SIZE), **({"c": random(3 * HEADS * SIZE)} if bias else {})}
    model = parse(text, factored=FACTORED, **INDICES, **weights)
    canonical = canonicalize(model, verify=False)
    x = random(2, TOKENS, WIDTH, seed=5)
    np.testing.assert_array_equal(run(model, x=x)[0], run(canonical, x=x)[0])
    expected = {"MatMul": 5, "Reshape": 3, "Transpose": 3, "Softmax": 1, "Relu": 1, **({"Add": 3} if bias else {})}
    assert ops(canonical) == expected
    shapes = [tuple(value.const_value.shape) for value in canonical.graph.initializers.values() if value.const_value]
    assert shapes.count((WIDTH, HEADS * SIZE)) == 3


def test_parts_of_different_sizes_inside_a_head() -> None:
    """As in YOLO11: a convolution whose heads each hold query, key and value of different sizes."""
    text = """g (float[1,4,3,3] x) => (float[1,2,5,9] y) {
        h = Conv(x, w, c)
        r = Reshape(h, factored)
        q, k, v = Split<axis=2>(r, sizes)
        qt = Transpose<perm=[0, 1, 3, 2]>(q)
        s = MatMul(qt, k)
        y = MatMul(v, s)
    }"""
    sizes = np.array([2, 2, 5], np.int64)
    factored = np.array([1, 2, 9, 9], np.int64)
    model = parse(text, w=random(18, 4, 1, 1), c=random(18), factored=factored, sizes=sizes)
    x = random(1, 4, 3, 3, seed=5)
    expected = run(model, x=x)[0]
    assert split_qkv(model) == 1
    remove_dead(model.graph)
    assert ops(model) == {"Conv": 3, "Reshape": 3, "Transpose": 1, "MatMul": 2}
    # onnxruntime's convolutions of other widths add up in another order: a few units in the last place.
    assert relative_error(expected, run(model, x=x)[0]) <= 1e-6


def test_packed_projection_with_a_detour() -> None:
    """As torch's MultiheadAttention exports it: factored by Reshape, then Unsqueeze, Transpose and Squeeze."""
    text = f"""g (float[{TOKENS},1,{WIDTH}] x) => (float[1,{HEADS},{TOKENS},{SIZE}] y) {{
        h = MatMul(x, w)
        r = Reshape(h, factored)
        u = Unsqueeze(r, zero)
        w2 = Transpose<perm=[3, 1, 2, 0, 4]>(u)
        t = Squeeze(w2, minus)
        q0 = Gather<axis=0>(t, i0)
        k0 = Gather<axis=0>(t, i1)
        v0 = Gather<axis=0>(t, i2)
        q1 = Reshape(q0, heads)
        k1 = Reshape(k0, heads)
        v1 = Reshape(v0, heads)
        q = Transpose<perm=[1, 2, 0, 3]>(q1)
        k = Transpose<perm=[1, 2, 0, 3]>(k1)
        v = Transpose<perm=[1, 2, 0, 3]>(v1)
        {ATTENTION}
    }}"""
    model = parse(
        text,
        w=random(WIDTH, 3 * HEADS * SIZE),
        factored=np.array([TOKENS, 1, 3, HEADS * SIZE], np.int64),
        heads=np.array([TOKENS, 1, HEADS, SIZE], np.int64),
        minus=np.array([3], np.int64),
        **INDICES,
    )
    canonical = canonicalize(model, verify=True)
    print(ops(canonical))
    assert ops(canonical) == {"MatMul": 5, "Reshape": 3, "Transpose": 3, "Softmax": 1, "Relu": 1}


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("an axis that is not factored", "q0, k0, v0 = Split<axis=2>(h, sizes)"),
        ("a projection with another reader", "r = Reshape(h, factored)\n other = Relu(h)"),
    ],
)
def test_what_stays_fused(what: str, text: str) -> None:
    if "q0" in text:
        body = f"""h = MatMul(x, w)
            {text}
            q = Reshape(q0, heads)
            k = Reshape(k0, heads)
            v = Reshape(v0, heads)
            s = Mul(q, k)
            y0 = Add(s, v)
            y = Transpose<perm=[0, 2, 1, 3]>(y0)"""
    else:
        body = f"h = MatMul(x, w)\n {text}\n t = Transpose<perm=[2, 0, 3, 1, 4]>(r)\n {TAKEN['gather']} {ATTENTION}"
    model = parse(
        projections(body),
        w=random(WIDTH, 3 * HEADS * SIZE),
        factored=FACTORED,
        heads=np.array([0, TOKENS, HEADS, SIZE], np.int64),
        sizes=np.array([HEADS * SIZE] * 3, np.int64),
        **INDICES,
    )
    assert split_qkv(model) == 0, what


def test_parts_that_never_attend_stay_fused() -> None:
    text = """g (float[2,4] x) => (float[2,3] y) {
        h = MatMul(x, w)
        r = Reshape(h, factored)
        a = Gather<axis=1>(r, i0)
        b = Gather<axis=1>(r, i1)
        y = Mul(a, b) }"""
    model = parse(text, w=random(4, 6), factored=np.array([2, 2, 3], np.int64), **INDICES)
    assert split_qkv(model) == 0


def test_a_symbolic_batch_survives() -> None:
    text = projections(f"""h = MatMul(x, w)
        r = Reshape(h, factored)
        t = Transpose<perm=[2, 0, 3, 1, 4]>(r)
        {TAKEN["gather"]} {ATTENTION}""")
    canonical = canonicalize(parse(text, w=random(WIDTH, 18), factored=FACTORED, **INDICES), verify=False)
    for batch in (1, 3):
        assert run(canonical, x=random(batch, TOKENS, WIDTH))[0].shape == (batch, HEADS, TOKENS, SIZE)
    assert all("batch" in str(value.shape) for node in canonical.graph for value in node.outputs)
    graphs.check(canonical)
