"""Open batch, height and width freeze no channels: the groups are those of fixed sizes, and the result stays open."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.dependency import analyse
from edgeprune.dependency.rules.shape import agreeing, factorings
from edgeprune.lengths import Dim
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.prune import masked, prune_channels, verify_cut
from tests.passes.models import parse, random, run

HEADS = """g (float[5, N, 16] x) => (float[a, b, c] y) {
    s = Shape(x)
    n = Slice(s, one, two)
    m = Mul(n, four)
    t = Concat<axis = 0>(five, m, eight)
    back = Concat<axis = 0>(five, n, wide)
    q = MatMul(x, w)
    r = Reshape(q, t)
    u = Relu(r)
    v = Reshape(u, back)
    y = MatMul(v, o)
}"""
GROUP_NORM = """g (float[N, 3, H, W] x) => (float[a, b, c, d] y) {
    h = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w)
    s = Shape(h)
    g = Reshape(h, grouped)
    i = InstanceNormalization(g, scale, bias)
    k = Reshape(i, s)
    y = Conv(k, o)
}"""
WINDOWS = """g (float[1, 3, H, W] x) => (float[a, b, c, d] y) {
    h = Conv<strides = [4, 4]>(x, w)
    s = Shape<start = 2>(h)
    over = Mod(s, seven)
    short = Sub(seven, over)
    more = Mod(short, seven)
    pads = Concat<axis = 0>(nothing, more)
    full = Pad(h, pads)
    s2 = Shape<start = 2>(full)
    n = Div(s2, seven)
    r2 = Slice(n, zero, one)
    c2 = Slice(n, one, two)
    t = Concat<axis = 0>(one, wide, r2, seven, c2, seven)
    p = Reshape(full, t)
    q = Transpose<perm = [0, 2, 4, 1, 3, 5]>(p)
    g = Relu(q)
    back = Transpose<perm = [0, 3, 1, 4, 2, 5]>(g)
    u = Concat<axis = 0>(one, wide, s2)
    v = Reshape(back, u)
    y = Conv(v, o)
}"""
CROP = """g (float[1, 3, H, W] x, float[1, 8, I, J] like) => (float[a, b, c, d] y) {
    h = Conv<pads = [1, 1, 1, 1]>(x, w)
    s = Shape<start = 2>(like)
    part = Slice(h, corner, s, image)
    o1 = Shape(part)
    o2 = Shape<start = 2>(h)
    both = Cast<to = 1>(o1)
    space = Slice(both, two, four)
    all = Cast<to = 1>(o2)
    ratio = Div(all, space)
    scales = Concat<axis = 0>(ones, ratio)
    big = Resize(part, , scales)
    y = Conv(big, o)
}"""
WEIGHTS = {
    WINDOWS: {
        **{"w": random(16, 3, 4, 4), "o": random(6, 16, 1, 1), "nothing": np.zeros(6, np.int64)},
        **{n: np.array([v]) for n, v in {"zero": 0, "one": 1, "two": 2, "seven": 7, "wide": 16}.items()},
    },
    CROP: {
        **{"w": random(16, 3, 3, 3), "o": random(6, 16, 1, 1), "ones": np.ones(2, np.float32)},
        **{"corner": np.zeros(2, np.int64), "image": np.array([2, 3]), "two": np.array([2]), "four": np.array([4])},
    },
    HEADS: {
        **{"one": np.array([1]), "two": np.array([2]), "four": np.array([4]), "five": np.array([5])},
        **{"eight": np.array([8]), "wide": np.array([32]), "w": random(16, 32), "o": random(32, 16)},
    },
    GROUP_NORM: {
        **{"grouped": np.array([0, 4, -1]), "scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)},
        **{"w": random(16, 3, 3, 3), "o": random(6, 16, 1, 1)},
    },
}


@pytest.mark.parametrize(
    ("text", "shapes"),
    [(HEADS, [(5, 2, 16), (5, 3, 16)]), (GROUP_NORM, [(1, 3, 8, 8), (2, 3, 11, 6)])],
    ids=["heads", "groups"],
)
def test_open_lengths_give_the_groups_of_fixed_ones(text: str, shapes: list[tuple[int, ...]]) -> None:
    fixed = text.replace("N", "2", 1).replace("H", "8", 1).replace("W", "8", 1) if text is GROUP_NORM else text
    fixed = fixed.replace("5, N", "5, 2")
    dense = canonicalize(parse(text, **WEIGHTS[text]))
    analysis = analyse(dense)
    closed = analyse(canonicalize(parse(fixed, **WEIGHTS[text])))
    assert sorted((g.kind, g.size) for g in analysis.groups) == sorted((g.kind, g.size) for g in closed.groups)
    assert analysis.groups
    cut = {g.id: np.arange(g.size // 2) for g in analysis.groups}
    pruned = prune_channels(dense, analysis, cut)
    for shape in shapes:
        assert run(pruned, x=random(*shape))[0].shape == run(dense, x=random(*shape))[0].shape


def test_factors_of_open_lengths() -> None:
    left, right, sizes = factorings((65, "n", 64), (65, "4*n", 16))
    assert left[0] == right[0]
    assert [len(text.strip("()").split()) for text in (left[1], left[2], right[1], right[2])] == [1, 2, 2, 1]
    assert sorted(map(str, sizes.values())) == ["16", "4", "n"]


@pytest.mark.parametrize(
    ("before", "after", "replaced"),
    [
        (("n", 196, 64), (1, 196, 4, 16), ((1, 196, 64), (1, 196, 4, 16))),
        ((2, 4, "2*(h//2)"), (2, 2, 2, "h"), ((2, 4, "h"), (2, 2, 2, "h"))),
        ((6, 8), ("n", 16), ((6, 8), (3, 16))),
        (("n", 5), (7, 3), (("n", 5), (7, 3))),
        (("n", 6), ("n", 2, 3), (("n", 6), ("n", 2, 3))),
    ],
)
def test_a_reshape_keeps_the_number_of_elements(
    before: tuple[Dim, ...], after: tuple[Dim, ...], replaced: tuple[tuple[Dim, ...], tuple[Dim, ...]]
) -> None:
    assert tuple(map(tuple, agreeing(before, after))) == replaced


@pytest.mark.parametrize("batch", ["N", "2"])
def test_heads_behind_a_product_with_the_batch_are_heads(batch: str) -> None:
    text = HEADS.replace("5, N", f"5, {batch}")
    kinds = {(g.kind, g.size) for g in analyse(canonicalize(parse(text, **WEIGHTS[HEADS]))).groups}
    assert kinds == {("head", 4), ("dim", 8)}


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        (WINDOWS, [{"x": (1, 3, 40, 32)}, {"x": (1, 3, 56, 28)}]),
        (CROP, [{"x": (1, 3, 9, 8), "like": (1, 8, 4, 5)}, {"x": (1, 3, 6, 7), "like": (1, 8, 6, 2)}]),
    ],
    ids=["padded windows", "crop and scale"],
)
def test_computed_pads_bounds_and_scales_freeze_their_own_axes_alone(
    text: str, shapes: list[dict[str, tuple[int, ...]]]
) -> None:
    dense = canonicalize(parse(text, **WEIGHTS[text]))
    analysis = analyse(dense)
    assert [g.size for g in analysis.groups] == [16]
    cut = {g.id: np.arange(0, g.size, 2) for g in analysis.groups}
    pruned = prune_channels(dense, analysis, cut)
    for sizes in shapes:
        feeds = {name: random(*shape) for name, shape in sizes.items()}
        whole = run(masked(dense, analysis, cut), **feeds)[0]
        np.testing.assert_allclose(run(pruned, **feeds)[0], whole, rtol=1e-4, atol=1e-5)


def test_lengths_that_depend_on_the_data_freeze_no_channels() -> None:
    """The second stage of a detector: as many regions as a suppression leaves."""
    text = """g (float[1,3,16,16] x, float[1,20,4] boxes, float[1,1,20] scores) => (float[a,5] y) {
        f = Conv<pads = [1, 1, 1, 1]>(x, w)
        chosen = NonMaxSuppression(boxes, scores, ten, threshold, threshold)
        k = Gather<axis = 1>(chosen, two)
        all = Squeeze(boxes, first)
        rois = Gather<axis = 0>(all, k)
        image = Gather<axis = 1>(chosen, zero)
        p = RoiAlign<output_height = 3, output_width = 3>(f, rois, image)
        h = Conv(p, wc)
        n = Shape<end = 1>(h)
        to = Concat<axis = 0>(n, rest)
        q = Reshape(h, to)
        u = Relu(q)
        t = MatMul(u, w1)
        heads = Reshape(t, four)
        turned = Transpose<perm = [0, 2, 1]>(heads)
        back = Reshape(turned, row)
        y = MatMul(back, w2)
    }"""
    weights = {
        **{"w": random(16, 3, 3, 3), "wc": random(12, 16, 2, 2), "w1": random(48, 24), "w2": random(24, 5)},
        **{"ten": np.array([10]), "threshold": np.float32([0.1]), "two": np.array(2), "zero": np.array(0)},
        **{"first": np.array([0]), "rest": np.array([-1]), "four": np.array([-1, 4, 6]), "row": np.array([-1, 24])},
    }
    dense = canonicalize(parse(text, **weights))
    analysis = analyse(dense)
    found = {(g.kind, g.size) for g in analysis.groups}
    assert found == {("channel", 16), ("channel", 12), ("head", 4), ("dim", 6)}
    cut = {g.id: np.arange(g.size // 2) for g in analysis.groups}
    verify_cut(dense, prune_channels(dense, analysis, cut), analysis, cut)


SELECTED = {
    "by NonZero": "at = NonZero(flags) row = Squeeze(at, first) some = Gather(h, row) same = Gather(g, row)",
    "by Compress": "some = Compress<axis = 0>(h, flags) same = Compress<axis = 0>(g, flags)",
    "by GatherND": "at = NonZero(flags) k = Transpose<perm = [1, 0]>(at) some = GatherND(h, k) same = GatherND(g, k)",
    "by TopK": """k = ReduceMin<keepdims = 1>(least) best, row = TopK<axis = 0>(flat, k)
        some = Gather(h, row) same = Gather(g, row)""",
}


@pytest.mark.parametrize("selection", SELECTED.values(), ids=SELECTED.keys())
def test_attention_over_what_was_selected_is_cut_as_any_other(selection: str) -> None:
    """A length that the data decides is one symbol, through all operators and in the targets of Reshapes."""
    text = f"""g (float[N,16] x) => (float[a,8] y) {{
        h = MatMul(x, w) g = MatMul(x, z) score = MatMul(x, ws) flat = Squeeze(score, second)
        flags = Greater(flat, zero) long = Shape(flat) least = Concat<axis = 0>(long, nine)
        {selection}
        u = Relu(some) q = MatMul(u, wq) e = MatMul(u, wk) v = MatMul(same, wv)
        n = Shape<end = 1>(same) t = Concat<axis = 0>(n, four, rest) wide = Concat<axis = 0>(n, rest)
        q4 = Reshape(q, t) qt = Transpose<perm = [1, 0, 2]>(q4)
        e4 = Reshape(e, t) et = Transpose<perm = [1, 2, 0]>(e4)
        v4 = Reshape(v, t) vt = Transpose<perm = [1, 0, 2]>(v4)
        s = MatMul(qt, et) m = Softmax<axis = -1>(s) o = MatMul(m, vt)
        ot = Transpose<perm = [1, 0, 2]>(o) f = Reshape(ot, wide) y = MatMul(f, wo)
    }}"""
    weights = {
        **{"w": random(16, 24), "z": 2 * random(16, 24), "ws": random(16, 1), "wo": random(32, 8)},
        **{name: k * random(24, 32) for k, name in enumerate(("wq", "wk", "wv"), 1)},
        **{"zero": np.float32(0), "first": np.array([0]), "second": np.array([1]), "nine": np.array([9])},
        **{"four": np.array([4]), "rest": np.array([-1])},
    }
    dense = canonicalize(parse(text, **weights))
    analysis = analyse(dense)
    found = sorted((g.kind, g.size) for g in analysis.groups)
    assert found == [("channel", 24), ("channel", 24), ("dim", 8), ("dim", 8), ("head", 4)]
    cut = {g.id: np.arange(g.size // 2) for g in analysis.groups}
    pruned = prune_channels(dense, analysis, cut)
    for rows in (20, 7):
        x = random(rows, 16)
        np.testing.assert_allclose(run(pruned, x=x)[0], run(masked(dense, analysis, cut), x=x)[0], rtol=1e-4, atol=1e-5)
