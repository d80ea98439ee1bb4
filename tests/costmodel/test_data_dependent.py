"""Shapes behind a length that depends on the data are bounded, and the network is priced at these."""

from __future__ import annotations

import pytest

from edgeprune.costmodel import model_latency_us
from edgeprune.costmodel.data_dependent import bounded_shapes, data_dependent
from edgeprune.devices import load_profile
from edgeprune.errors import ModelError
from edgeprune.testing import parse

NMS = """
net (float[1, 30, 4] boxes, float[1, 2, 30] scores, float[30, 8] features) => (float[n, 5] y)
<int64[1] most = {MOST}, int64 column = {2}> {
    keep = NonMaxSuppression(boxes, scores, most)
    index = Gather<axis = 1>(keep, column)
    picked = Gather<axis = 0>(features, index)
    hidden = MatMul(picked, w)
    y = Relu(hidden)
}
"""
NONZERO = """
net (float[3, 4] x) => (int64[m, 2] y) {
    found = NonZero(x)
    y = Transpose(found)
}
"""
COMPRESS = """
net (float[6, 4] x, bool[5] flags) => (float[m, 4] y) {
    found = Compress<axis = 0>(x, flags)
    y = Relu(found)
}
"""
UNIQUE = """
net (float[6, 4] x) => (float[m] y) {
    found, first, inverse, count = Unique(x)
    y = Relu(found)
}
"""


@pytest.mark.parametrize(("most", "rows"), [(7, 14), (100, 60)])
def test_boxes(most: int, rows: int) -> None:
    """Two classes, at most ``most`` boxes of each, and never more than there are."""
    shapes = bounded_shapes(parse(NMS.replace("MOST", str(most)), w=(8, 5)))
    assert shapes["keep"] == (rows, 3)
    assert shapes["hidden"] == (rows, 5)


@pytest.mark.parametrize(("text", "shape"), [(NONZERO, (2, 12)), (COMPRESS, (5, 4)), (UNIQUE, (24,))])
def test_other_operators(text: str, shape: tuple[int, ...]) -> None:
    model = parse(text)
    assert bounded_shapes(model)["found"] == shape
    assert len(data_dependent(model)) == 1


def test_a_prediction_says_what_is_priced_at_its_largest() -> None:
    found = model_latency_us(parse(NMS.replace("MOST", "7"), w=(8, 5)), load_profile("orin"))
    assert any("depends on the data, and is priced at its largest length" in text for text in found.outside)
    assert any(kernel.kind == "matmul" for kernel in found.kernels)


def test_no_advice_that_cannot_help() -> None:
    """The inputs are fixed, so it does not help to fix them."""
    text = "net (int64[1] x) => (float[n] y) { r = ConstantOfShape(x) y = Relu(r) }"
    with pytest.raises(ModelError, match=r"shape of tensor r is not known: it depends on the data \(ConstantOfShape"):
        model_latency_us(parse(text), load_profile("orin"))
