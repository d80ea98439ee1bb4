"""A cut is compared with the dense model, and a cut that changes a shape or a value is refused."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune import graph
from edgeprune.dependency import analyse
from edgeprune.errors import ModelError
from edgeprune.passes.prune import prune_channels, verify_cut
from edgeprune.testing import parse

TEXT = """
net (float[N, 3, 4, 4] x) => (float[N, 2, 4, 4] y) {
    h = Conv(x, w)
    r = Relu(h)
    y = Conv(r, v)
}
"""


@pytest.fixture(name="cut")
def _cut() -> tuple[ir.Model, ir.Model, object, dict[str, np.ndarray]]:
    model = parse(TEXT, w=[8, 3, 1, 1], v=[2, 8, 1, 1])
    analysis = analyse(model)
    cut = {analysis.groups[0].id: np.array([0, 2, 5])}
    return model, prune_channels(model, analysis, cut), analysis, cut


def test_a_right_cut(cut) -> None:  # type: ignore[no-untyped-def]
    model, pruned, analysis, kept = cut
    assert verify_cut(model, pruned, analysis, kept)


def test_a_wrong_value(cut) -> None:  # type: ignore[no-untyped-def]
    model, pruned, analysis, kept = cut
    weight = pruned.graph.initializers["v"]
    weight.const_value = ir.tensor(weight.const_value.numpy()[:, ::-1].copy(), name="v")
    with pytest.raises(ModelError, match="nothing is written: the rewritten model differs from the original"):
        verify_cut(model, pruned, analysis, kept)


def test_a_size_that_was_written_down(cut) -> None:  # type: ignore[no-untyped-def]
    """A batch that became a constant shows at the second size."""
    model, pruned, analysis, kept = cut
    last = next(iter(reversed(pruned.graph)))
    names = graph.Names(pruned)
    target = graph.int64_initializer(last, "target", [2, 2, 4, 4], names)
    old = last.outputs[0]
    reshape = ir.node("Reshape", [old, target], name="written")
    pruned.graph.append(reshape)
    result = reshape.outputs[0]
    result.type, result.shape = old.type, ir.Shape([2, 2, 4, 4])
    pruned.graph.outputs[0] = result
    old.name, result.name = "before", "y"
    with pytest.raises(ModelError, match="nothing is written"):
        verify_cut(model, pruned, analysis, kept)


def test_shapes_alone(cut) -> None:  # type: ignore[no-untyped-def]
    """Where values change by request, only shapes must stay."""
    model, pruned, analysis, kept = cut
    weight = pruned.graph.initializers["v"]
    weight.const_value = ir.tensor(weight.const_value.numpy()[:, ::-1].copy(), name="v")
    assert verify_cut(model, pruned, analysis, kept, values=False)


def test_probabilities_that_are_all_near_zero() -> None:
    """The end of a text detector on noise: a sigmoid of about -16 has no correct digit, what it reads has six."""
    text = """
    net (float[N, 3, 16, 16] x) => (float[N, 1, 32, 32] y) {
        h = Conv(x, w)
        r = Relu(h)
        u = ConvTranspose<strides=[2, 2]>(r, v, b)
        y = Sigmoid(u)
    }
    """
    model = parse(text, w=[512, 3, 1, 1], v=[512, 1, 2, 2], b=[1])
    v, b = (model.graph.initializers[name] for name in "vb")
    v.const_value = ir.tensor(v.const_value.numpy() * np.float32(0.02), name="v")
    b.const_value = ir.tensor(np.array([-15.7], np.float32), name="b")
    analysis = analyse(model)
    cut = {analysis.groups[0].id: np.arange(1, 512, 2)}
    pruned = prune_channels(model, analysis, cut)
    assert verify_cut(model, pruned, analysis, cut)
    weight = pruned.graph.initializers["v"]
    weight.const_value = ir.tensor(weight.const_value.numpy()[::-1].copy(), name="v")
    with pytest.raises(ModelError, match="output 'y' is off by"):
        verify_cut(model, pruned, analysis, cut)
