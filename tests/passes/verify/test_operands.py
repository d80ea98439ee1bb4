"""Axes, permutations and indices that do not fit are refused in one sentence that names the node."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.errors import ModelError
from edgeprune.passes.canonicalize import canonicalize
from tests.passes.models import parse


def model(call: str, **constants: object) -> ir.Model:
    text = f"g (float[2,8,4] x) => (float[a,b,c] y) {{ h = Relu(x)\n [bad] m = {call}\n y = Neg(m) }}"
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
        ("Conv<group = 3>(h, w)", {"w": np.ones((6, 2, 1), np.float32)}, "reads 6 channels in 3 groups"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call: str, constants: dict[str, object], wrong: str) -> None:
    with pytest.raises(ModelError, match=f"not valid: .*bad.*{wrong}|not valid: {wrong}.*bad"):
        canonicalize(model(call, **constants), verify=False)


@pytest.mark.parametrize(
    ("call", "constants"),
    [
        ("Softmax<axis = -3>(h)", {}),
        ("Unsqueeze(h, i)", {"i": [4, 3]}),
        ("Flatten<axis = 3>(h)", {}),
        ("Gather<axis = 1>(h, i)", {"i": [-8, 7]}),
        ("Reshape(h, s)", {"s": [0, -1, 2]}),
    ],
)
def test_what_fits_is_not(call: str, constants: dict[str, object]) -> None:
    canonicalize(model(call, **constants), verify=False)
