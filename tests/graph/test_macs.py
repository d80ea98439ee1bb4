from __future__ import annotations

import numpy as np
import pytest

from edgeprune import graph as graphs
from tests.passes.models import parse, random


@pytest.mark.parametrize(
    ("text", "weights", "macs"),
    [
        ("g (float[2,4,9,9] x) => (float[2,8,7,7] y) { y = Conv(x, w) }", {"w": (8, 4, 3, 3)}, 2 * 8 * 49 * 36),
        ("g (float[1,4,9,9] x) => (float[1,4,7,7] y) { y = Conv<group=4>(x, w) }", {"w": (4, 1, 3, 3)}, 4 * 49 * 9),
        (
            "g (float[1,4,5,5] x) => (float[1,6,10,10] y) { y = ConvTranspose<strides=[2,2]>(x, w) }",
            {"w": (4, 6, 2, 2)},
            4 * 25 * 6 * 4,
        ),
        ("g (float[3,5,7] x) => (float[3,5,2] y) { y = MatMul(x, w) }", {"w": (7, 2)}, 3 * 5 * 7 * 2),
        ("g (float[7,5] x) => (float[5,2] y) { y = Gemm<transA=1>(x, w) }", {"w": (7, 2)}, 5 * 7 * 2),
        (
            'g (float[2,3,4] x) => (float[2,3,5] y) { y = Einsum<equation="bij,jk->bik">(x, w) }',
            {"w": (4, 5)},
            2 * 3 * 4 * 5,
        ),
        (
            "g (float[6,2,3] x) => (float[6,1,2,4] y) { y = LSTM<hidden_size=4>(x, w, r) }",
            {"w": (1, 16, 3), "r": (1, 16, 4)},
            6 * 2 * (16 * 3 + 16 * 4),
        ),
        ("g (float[batch,7] x) => (float[batch,2] y) { y = MatMul(x, w) }", {"w": (7, 2)}, 14),
    ],
)
def test_macs_of_one_node(text: str, weights: dict[str, tuple[int, ...]], macs: int) -> None:
    model = parse(text, **{name: random(*shape) for name, shape in weights.items()})
    next(iter(model.graph)).name = "n"
    assert graphs.count_macs(model) == {"n": macs}
    assert graphs.count_parameters(model) == sum(int(np.prod(shape)) for shape in weights.values())


def test_elementwise_work_is_not_counted() -> None:
    model = parse("g (float[3] x) => (float[3] y) { y = Relu(x) }")
    assert graphs.count_macs(model) == {}
