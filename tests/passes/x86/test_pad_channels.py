import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.graph import model_io as graph
from edgeprune.graph.edit import naming, remove_dead
from edgeprune.passes.x86.pad_channels import pad_channels
from edgeprune.testing.oracle import feeds_for, parse

BLOCK = """
g (float[1, 3, 8, 8] x) => (float[1, 5, 4, 4] y) <float three = {3}, float zero = {0}, float six = {6}> {
  e = Conv(x, w1, b1)
  s = Add(e, three)
  k = Clip(s, zero, six)
  h = Mul(e, k)
  d = Conv<pads=[1, 1, 1, 1], strides=[2, 2], group=40>(h, w2, b2)
  p = GlobalAveragePool(d)
  r = Conv(p, w3, b3)
  f = Relu(r)
  z = Conv(f, w4, b4)
  q = HardSigmoid(z)
  m = Mul(d, q)
  y = Conv(m, w5, b5)
}
"""
SIZES = {
    "w1": (40, 3, 1, 1), "b1": (40,), "w2": (40, 1, 3, 3), "b2": (40,), "w3": (10, 40, 1, 1), "b3": (10,),
    "w4": (40, 10, 1, 1), "b4": (40,), "w5": (5, 40, 1, 1), "b5": (5,),
}  # fmt: skip


def padded(model: ir.Model) -> ir.Model:
    copy = graph.clone(model)
    with naming(copy.graph):
        pad_channels(copy.graph, [str(n.name) for n in copy.graph])
    remove_dead(copy.graph)
    return copy


def channels(model: ir.Model) -> list[int]:
    return [int(n.inputs[1].shape[0]) for n in model.graph if n.op_type == "Conv"]


def test_a_block_with_squeeze_and_excitation_is_widened_and_computes_the_same() -> None:
    model = parse(BLOCK, **SIZES)
    changed = padded(model)
    assert channels(changed) == [48, 48, 10, 48, 5]
    feeds = feeds_for(model, 0)
    (want,), (got,) = (OnnxRuntime().load(m).run(feeds) for m in (model, changed))
    # Sums of the same terms in another order.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))
    assert channels(model) == [40, 40, 10, 40, 5]


@pytest.mark.parametrize(
    "change",
    [
        ("m = Mul(d, q)", "m = Mul(d, w4t)"),
        ("q = HardSigmoid(z)", "q = Softmax<axis=1>(z)"),
        ("=> (float[1, 5, 4, 4] y)", "=> (float[1, 5, 4, 4] y, float[1, 40, 4, 4] d)"),
    ],
    ids=["a constant for every channel", "a sum over channels", "an output"],
)
def test_channels_that_cannot_be_widened_stay(change: tuple[str, str]) -> None:
    model = parse(BLOCK.replace(*change), **SIZES, w4t=(40, 1, 1))
    assert channels(padded(model))[1] == 40


@pytest.mark.parametrize("size", [48, 20])
def test_channels_that_fit_or_would_double_stay(size: int) -> None:
    text = BLOCK.replace("group=40", f"group={size}")
    sizes = {name: tuple(size if n == 40 else n for n in dims) for name, dims in SIZES.items()}
    assert channels(padded(parse(text, **sizes)))[1] == size


SKIP = """
g (float[1, 8, 24, 24] x) => (float[1, 16, 24, 24] y) {
  a = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  s = Sigmoid(a)
  m = Mul(a, s)
  p = MaxPool<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(m)
  n = Conv(p, w2)
  c = Concat<axis=1>(n, m, x)
  t = LeakyRelu(c)
  y = Conv<pads=[1, 1, 1, 1]>(t, w3)
}
"""
SKIP_SIZES = {"w1": (12, 8, 3, 3), "b1": (12,), "w2": (20, 12, 1, 1), "w3": (16, 40, 3, 3)}


def test_few_output_channels_become_enough_through_a_concat() -> None:
    model = parse(SKIP, **SKIP_SIZES)
    changed = padded(model)
    assert channels(changed) == [16, 20, 16]
    assert [int(n.inputs[1].shape[1]) for n in changed.graph if n.op_type == "Conv"] == [8, 16, 44]
    feeds = feeds_for(model, 0)
    (want,), (got,) = (OnnxRuntime().load(m).run(feeds) for m in (model, changed))
    # Sums of the same terms in another order.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        (("24, 24", "6, 6"), {}),
        (("Concat<axis=1>(n, m, x)", "Concat<axis=1>(m, m, x)"), {"w3": (16, 32, 3, 3)}),
        (("MaxPool<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>", "Softplus"), {}),
        (("", ""), {"w1": (8, 8, 3, 3), "b1": (8,), "w2": (20, 8, 1, 1), "w3": (16, 36, 3, 3)}),
    ],
    ids=["too few patches", "twice in a concat", "an unknown reader", "it would double"],
)
def test_few_output_channels_stay(change: tuple[str, str], sizes: dict[str, tuple[int, ...]]) -> None:
    shapes = {**SKIP_SIZES, **sizes}
    assert channels(padded(parse(SKIP.replace(*change), **shapes)))[0] == shapes["w1"][0]


def test_rows_for_every_pixel_of_a_tile_are_not_mistaken_for_channels() -> None:
    """A ConvTranspose that will be pixels shuffled has its final shape before it is."""
    model = parse(
        """g (float[1, 8, 12, 12] x) => (float[1, 5, 12, 12] y) {
            t = Conv(x, w1)
            d = Conv<pads=[1, 1, 1, 1], group=40>(t, w2)
            y = Conv(d, w3)
        }""",
        w1=(40, 8, 1, 1), w2=(40, 1, 3, 3), w3=(5, 40, 1, 1),
    )  # fmt: skip
    rows = ir.tensor(np.ones((160, 8, 1, 1), np.float32), name="w1")
    model.graph.initializers["w1"].const_value, model.graph.initializers["w1"].shape = rows, rows.shape
    model.graph[0].outputs[0].shape = ir.Shape([1, 40, 24, 24])
    model.graph[1].outputs[0].shape = ir.Shape([1, 40, 24, 24])
    assert channels(padded(model)) == [160, 40, 5]
