"""Axes, permutations and indices that do not fit are refused in one sentence that names the node."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.errors import ModelError
from edgeprune.passes.canonicalize import canonicalize
from tests.passes.models import parse


def model(call: str, **constants: object) -> ir.Model:
    results = "m, places" if call.startswith("TopK") else "m"
    text = f"g (float[2,8,4] x) => (float[a,b,c] y) {{ h = Relu(x)\n [bad] {results} = {call}\n y = Neg(m) }}"
    return parse(text, **{name: np.asarray(value) for name, value in constants.items()})


@pytest.mark.parametrize(
    ("call", "constants", "wrong"),
    [
        ("Softmax<axis = 3>(h)", {}, "axis 3"),
        ("Softmax<axis = -4>(h)", {}, "axis -4"),
        ("Concat<axis = 3>(h, h)", {}, "axis 3"),
        ("Split<axis = 7>(h)", {}, "axis 7"),
        ("Split<axis = 1>(h, s)", {"s": [9]}, "split"),
        ("Gather<axis = 3>(h, i)", {"i": [0]}, "axis 3"),
        ("Gather<axis = 1>(h, i)", {"i": [0, 8]}, "index 8 of an axis of length 8"),
        ("Gather<axis = 1>(h, i)", {"i": [-9]}, "index -9 of an axis of length 8"),
        ("GatherElements<axis = 5>(h, i)", {"i": np.zeros((2, 8, 4), np.int64)}, "axis 5"),
        ("CumSum(h, i)", {"i": 3}, "axis 3"),
        ("LayerNormalization<axis = 6>(h, g)", {"g": np.ones(4, np.float32)}, "axis 6"),
        ("ReduceMean<axes = [0, 5]>(h)", {}, "axis 5"),
        ("ReduceSum(h, i)", {"i": [4]}, "axis 4"),
        ("Squeeze(h, i)", {"i": [6]}, "axis 6"),
        ("Slice(h, i, e, a)", {"i": [0], "e": [1], "a": [3]}, "axis 3"),
        ("Transpose<perm = [0, 2]>(h)", {}, r"perm \[0, 2\]"),
        ("Transpose<perm = [0, 2, 2]>(h)", {}, r"perm \[0, 2, 2\]"),
        ("Reshape(h, s)", {"s": [2, 8, 5]}, "another number of elements"),
        ("Reshape(h, s)", {"s": [3, 0, -1]}, "another number of elements"),
        ("GatherElements<axis = 1>(h, i)", {"i": np.full((2, 1, 4), 8)}, "index 8 of an axis of length 8"),
        ("TopK<axis = 1>(h, i)", {"i": [9]}, "9 elements of an axis of length 8"),
        ("TopK<axis = 1>(h, i)", {"i": [-1]}, "length -1"),
        ("Pad(h, i)", {"i": [0, 0, 1, 1]}, "[Pp]ads"),
        ("Pad(h, i)", {"i": [0, -5, 0, 0, -5, 0]}, "length -2"),
        ('Pad<mode = "reflect">(h, i)', {"i": [0, 0, 4, 0, 0, 0]}, "4 elements of axis 2, which has length 4"),
        ("Expand(h, i)", {"i": [2, 5, 4]}, "Incompatible dimensions"),
        ("Tile(h, i)", {"i": [1, 2]}, "repeats"),
        ("MaxPool<kernel_shape = [3, 3]>(h)", {}, "kernel_shape"),
        ("AveragePool<kernel_shape = [9]>(h)", {}, "length -4"),
        ("MatMul(h, w)", {"w": np.ones((5, 3), np.float32)}, "Incompatible dimensions"),
        ("InstanceNormalization(h, w, w)", {"w": np.ones(7, np.float32)}, "7 values for an axis of length 8"),
        ("LayerNormalization(h, w)", {"w": np.ones(8, np.float32)}, r"shape \[8\]"),
        ("PRelu(h, w)", {"w": np.ones((7, 1), np.float32)}, r"shape \[7, 1\]"),
        ("Add(h, w)", {"w": np.ones((7, 1), np.float32)}, "Incompatible dimensions"),
        ("Concat<axis = 1>(h, w)", {"w": np.ones((2, 3, 5), np.float32)}, "merge shape"),
        ("Conv(h, w, b)", {"w": np.ones((6, 8, 1), np.float32), "b": np.ones(5, np.float32)}, "makes 6 channels"),
        ("Conv<group = 3>(h, w)", {"w": np.ones((6, 2, 1), np.float32)}, "reads 6 channels in 3 groups"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call: str, constants: dict[str, object], wrong: str) -> None:
    with pytest.raises(ModelError, match=f"not valid: .*bad.*{wrong}|not valid: {wrong}.*bad"):
        canonicalize(model(call, **constants), verify=False)


@pytest.mark.parametrize(
    ("operator", "wrong"),
    [
        ("DepthToSpace<blocksize = 3>", "axis 1 of length 8 into 9 parts"),
        ("SpaceToDepth<blocksize = 3>", "axis 2 of length 4 into 3 parts"),
    ],
)
def test_axes_that_cannot_be_divided_are_refused(operator: str, wrong: str) -> None:
    with pytest.raises(ModelError, match=f"not valid: .*bad.*{wrong}"):
        canonicalize(parse(f"g (float[1,8,4,6] x) => (float[a,b,c,d] y) {{ [bad] y = {operator}(x) }}"), verify=False)


@pytest.mark.parametrize(
    ("axis", "scales", "wrong"), [(3, 8, "axis 3, but"), (1, 7, "7 values for an axis of length 8")]
)
def test_scales_that_do_not_fit_are_refused(axis: int, scales: int, wrong: str) -> None:
    text = f"""g (float[2,8,4] x) => (float[2,8,4] y) {{
        [bad] q = QuantizeLinear<axis = {axis}>(x, s, z)
        y = DequantizeLinear<axis = {axis}>(q, s, z)
    }}"""
    broken = parse(text, s=np.ones(scales, np.float32), z=np.zeros(scales, np.int8))
    with pytest.raises(ModelError, match=f"not valid: .*bad.*{wrong}"):
        canonicalize(broken, verify=False)


@pytest.mark.parametrize(
    ("call", "constants"),
    [
        ("TopK<axis = 1>(h, i)", {"i": [8]}),
        ("Pad(h, i)", {"i": [0, -5, 0, 0, 2, 0]}),
        ('Pad<mode = "reflect">(h, i)', {"i": [0, 0, 3, 0, 0, 3]}),
        ("Expand(h, i)", {"i": [3, 2, 1, 1]}),
        ("PRelu(h, w)", {"w": np.ones((8, 1), np.float32)}),
        ("LayerNormalization(h, w)", {"w": np.ones((1, 8, 4), np.float32)}),
        ("DequantizeLinear<axis = 9>(i, s)", {"i": np.ones((2, 8, 4), np.int8), "s": np.ones(1, np.float32)}),
        ("Softmax<axis = -3>(h)", {}),
        ("Unsqueeze(h, i)", {"i": [4, 3]}),
        ("Flatten<axis = 3>(h)", {}),
        ("Gather<axis = 1>(h, i)", {"i": [-8, 7]}),
        ("Reshape(h, s)", {"s": [0, -1, 2]}),
    ],
)
def test_what_fits_is_not(call: str, constants: dict[str, object]) -> None:
    canonicalize(model(call, **constants), verify=False)


def test_a_branch_that_is_not_taken_need_not_fit() -> None:
    model = parse(
        """g (float[1, 4, 8, 8] x, bool flag) => (float[1, 8, 8] y) <int64 nine = {9}, int64 two = {2}> {
            r = If (flag) <
              then_branch = one () => (float[1, 8, 8] a) { a = Gather<axis = 1>(x, nine) },
              else_branch = other () => (float[1, 8, 8] b) { b = Gather<axis = 1>(x, two) }
            >
            y = Relu(r)
        }"""
    )
    canonicalize(model, verify=False)


def test_sizes_of_unknown_number_may_fit() -> None:
    model = parse(
        """g (float[1, 4, 8, 8] x, int64[n] sizes) => (float[1, 4, a, b] y) {
            r = Resize(x, , , sizes)
            y = Relu(r)
        }"""
    )
    canonicalize(model, verify=False)
