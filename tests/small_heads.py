"""Small heads that end in a choice: TopK, ArgMax, non-maximum suppression; and one with a choice inside."""

import numpy as np
import onnx_ir as ir

from tests.small_models import build, normal

DETECTOR = """
    h1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1) h = Relu(h1)
    b1 = Conv<kernel_shape=[1,1]>(h, wb, bb) b2 = Reshape(b1, to_boxes) b3 = Sigmoid(b2)
    b4 = Transpose<perm=[0,2,1]>(b3) low, size = Split<axis=-1>(b4)
    first = Mul(low, sixty) second = Add(first, size) boxes = Concat<axis=-1>(first, second)
    s1 = Conv<kernel_shape=[1,1]>(h, ws, bs) s2 = Reshape(s1, to_scores) s3 = Sigmoid(s2)
"""

HEADS = {
    "classifier": """g (float[n,3,8,8] x) => (float[n,3] top, int64[n,3] index) {
        h1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1) h = Relu(h1) a = GlobalAveragePool(h) f = Flatten(a)
        z = Gemm<transB=1>(f, wc, bc) p = Softmax(z) top, index = TopK(p, three)
    }""",
    "end to end": """g (float[n,3,8,8] x) => (float[n,m,k] y) {"""
    + DETECTOR
    + """
        scores = Transpose<perm=[0,2,1]>(s3) best = ReduceMax<axes=[-1], keepdims=0>(scores)
        v1, i1 = TopK(best, ten) i2 = Unsqueeze(i1, last) i4 = Expand(i2, four) i5 = Expand(i2, five)
        kb = GatherElements<axis=1>(boxes, i4) ks = GatherElements<axis=1>(scores, i5)
        flat = Flatten(ks) v2, j = TopK(flat, ten) label = Mod(j, classes) row = Div(j, classes)
        r2 = Unsqueeze(row, last) r4 = Expand(r2, four) fb = GatherElements<axis=1>(kb, r4)
        lf = Cast<to=1>(label) l2 = Unsqueeze(lf, last) s4 = Unsqueeze(v2, last) y = Concat<axis=-1>(fb, s4, l2)
    }""",
    "suppressed": """g (float[1,3,8,8] x) => (int64[m,3] kept, float[k,4] found) {"""
    + DETECTOR
    + """
        scores = Identity(s3) kept = NonMaxSuppression(boxes, scores, ten, half, quarter)
        column = Gather<axis=1>(kept, two) rows = Squeeze(boxes) found = Gather<axis=0>(rows, column)
    }""",
    "class map": """g (float[n,3,8,8] x) => (int64[n,8,8] y) {
        h1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1) h = Relu(h1)
        logits = Conv<kernel_shape=[1,1]>(h, ws, bs) y = ArgMax<axis=1, keepdims=0>(logits)
    }""",
    "mask": """g (float[n,3,8,8] x) => (uint8[n,5,8,8] y) {
        h1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1) h = Relu(h1)
        logits = Conv<kernel_shape=[1,1]>(h, ws, bs) q = Sigmoid(logits) t = Greater(q, half) y = Cast<to=2>(t)
    }""",
    "fixed queries": """g (float[n,3,8,8] x) => (float[n,64,4] boxes, float[n,64,5] scores) {"""
    + DETECTOR
    + """
        scores = Transpose<perm=[0,2,1]>(s3)
    }""",
    "queries": """g (float[n,3,8,8] x) => (float[n,10,9] out) {
        h1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1) h = Relu(h1)
        t1 = Reshape(h, to_tokens) tokens = Transpose<perm=[0,2,1]>(t1)
        enc = MatMul(tokens, we) best = ReduceMax<axes=[-1], keepdims=0>(enc) v1, picked = TopK(best, ten)
        i2 = Unsqueeze(picked, last) i3 = Expand(i2, hidden) q = GatherElements<axis=1>(tokens, i3)
        d1 = MatMul(q, wd1) d2 = Relu(d1) d3 = MatMul(d2, wd2) out = Sigmoid(d3)
    }""",
}
_INTEGERS = {
    "to_boxes": [0, 4, 64],
    "to_scores": [0, 5, 64],
    "to_tokens": [0, 16, 64],
    "three": [3],
    "ten": [10],
    "last": [-1],
    "four": [1, 1, 4],
    "five": [1, 1, 5],
    "hidden": [1, 1, 16],
    "classes": [5],
    "two": [2],
}


def head(name: str, seed: int = 0) -> ir.Model:
    """A head with random weights."""
    text = HEADS[name]
    weights = {
        "w1": 1.4 * normal(16, 3, 3, 3, seed=seed),
        "wb": normal(4, 16, 1, 1, seed=seed),
        "bb": np.zeros(4),
        "ws": 4 * normal(5, 16, 1, 1, seed=seed),
        "bs": np.full(5, -2.0),
        "wc": normal(7, 16, seed=seed),
        "bc": np.zeros(7),
        "we": normal(16, 5, seed=seed) / 2,
        "wd1": normal(16, 24, seed=seed) / 2,
        "wd2": normal(24, 9, seed=seed),
        "sixty": np.array(60.0),
        "half": np.array([0.5]),
        "quarter": np.array([0.25]),
    }
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    integers = {k: v for k, v in _INTEGERS.items() if k in words}
    return build(text, integers=integers, **{k: v for k, v in weights.items() if k in words})
