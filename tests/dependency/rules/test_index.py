from tests.dependency.rules.cases import Case, cases, check

PADS = "int64[8] p = {0, 2, 0, 0, 0, 1, 0, 0}"


@cases(
    Case("concat", "i = Relu(h) z = Concat<axis=1>(h, i)", (6,), out=12),
    Case("concat of two", "i = Conv(h, w) z = Concat<axis=1>(h, i)", (6, 2), out=8, weights={"w": (2, 6, 1, 1)}),
    Case("concat along space", "i = Relu(h) z = Concat<axis=2>(h, i)", (6,)),
    Case(
        "concat with a single channel",
        "i = Conv(h, w) z = Concat<axis=-3>(h, i)",
        (6,),
        out=7,
        weights={"w": (1, 6, 1, 1)},
    ),
    Case(
        "split and join in another order",
        "a, b = Split<axis=1>(h, s) z = Concat<axis=1>(b, a)",
        (2, 4),
        constants="int64[2] s = {2, 4}",
    ),
    Case("equal split", "a, b = Split<axis=1>(h) z = Mul(a, b)", (3,), out=3),
    Case(
        "equal split by number",
        "a, b, c = Split<axis=1, num_outputs=3>(h) i = Add(a, c) z = Concat<axis=1>(i, b)",
        (2, 2),
        out=4,
        opset=18,
    ),
    Case("split before opset 13", "a, b = Split<axis=1, split=[2,4]>(h) z = Concat<axis=1>(b, a)", (2, 4), opset=12),
    Case("slice", "z = Slice(h, one, four, one)", (3, 3), out=3, constants="int64[1] one = {1}, int64[1] four = {4}"),
    Case(
        "slice with a step",
        "z = Slice(h, one, far, one, two)",
        (3, 3),
        out=3,
        constants="int64[1] one = {1}, int64[1] far = {99}, int64[1] two = {2}",
    ),
    Case(
        "backwards",
        "i = Slice(h, last, far, one, back) z = Add(h, i)",
        (3,),
        constants="int64[1] one = {1}, int64[1] far = {-99}, int64[1] last = {-1}, int64[1] back = {-1}",
    ),
    Case("pad with zeros", "i = Pad(h, p) z = Relu(i)", (3, 6), out=9, constants=PADS),
    Case("pad with ones", "i = Pad(h, p, v) z = Relu(i)", (3, 6), out=9, constants=PADS + ", float v = {1}"),
    Case("reflect", "z = Pad<mode='reflect'>(h, p)".replace("'", '"'), (), out=9, constants=PADS),
    Case("gather", "z = Gather<axis=1>(h, i)", (1, 2, 1), out=5, channels=4, constants="int64[5] i = {2, 0, 2, -2, 3}"),
    Case(
        "gather one",
        "i = Gather<axis=1>(h, k) z = Unsqueeze(i, one)",
        (5,),
        out=1,
        constants="int64 k = {4}, int64[1] one = {1}",
    ),
    Case(
        "gather in a matrix",
        "i = Gather<axis=1>(h, k) z = Reshape(i, s)",
        (1, 2, 3),  # a channel that is picked twice, two picked once, and three that are not
        out=4,
        constants="int64[2,2] k = {4, 1, 0, 0}, int64[4] s = {1, 4, 4, 4}",
    ),
    Case("gather along space", "z = Gather<axis=3>(h, k)", (6,), constants="int64[2] k = {1, 2}"),
)
def test_positions(case: Case) -> None:
    check(case)


@cases(
    Case(
        "scatter_nd on the batch axis",
        "i = Relu(h) z = ScatterND(h, k, i)",
        (6,),
        constants="int64[1,1] k = {0}",
    ),
    Case("compress rows", "z = Compress<axis=2>(h, k)", (6,), constants="bool[4] k = {1, 0, 1, 1}"),
    Case("compress channels", "z = Compress<axis=1>(h, k)", (), out=3, constants="bool[6] k = {1, 0, 1, 0, 0, 1}"),
    Case("gather_nd on the batch axis", "z = GatherND(h, k)", (6,), constants="int64[1,1] k = {0}"),
    Case(
        "gather_elements along space",
        "z = GatherElements<axis=3>(h, k)",
        (6,),
        constants="int64[1,6,4,1] k = {" + ", ".join("0123" * 6) + "}",
    ),
)
def test_indexed_axes(case: Case) -> None:
    check(case)
