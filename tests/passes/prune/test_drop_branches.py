from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.calibration import open_calibration
from edgeprune.dependency.residual_branches import droppable
from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.errors import ModelError
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.prune.drop_branches import merge_branches, shift_behind
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.recover.compensate import compensate
from edgeprune.testing.oracle import error
from tests.passes.prune.transformers import ATTENTION, MLP, transformer
from tests.small_models import build, calibration, normal

NOTHING = np.array([], dtype=np.int64)
NET = """
g (float[n, 6, 8, 8] x) => (float[n, 5, 8, 8] y) {
  s = Conv(x, w0, b0)
  h = Conv<pads=[1,1,1,1]>(s, w1, b1)
  r = Relu(h)
  k = Conv(r, w2, b2)
  a = Add(k, s)
  t = Relu(a)
  y = Conv(t, w3)
}
"""


def net(**weights):
    return net_of(NET, **weights)


def net_of(text: str, **weights):
    given = {
        "w0": normal(16, 6, 1, 1),
        "b0": normal(16),
        "w1": normal(24, 16, 3, 3),
        "b1": normal(24),
        "w2": normal(16, 24, 1, 1),
        "b2": normal(16),
        "w3": normal(5, 16, 1, 1),
    }
    return canonicalize(build(text, **(given | weights)))


def inner(analysis: Analysis) -> str:
    return next(g.id for g in analysis.groups if g.size == 24)


def test_a_dropped_branch_equals_a_masked_one() -> None:
    model = net()
    analysis = analyse(model)
    cut = {inner(analysis): NOTHING}
    pruned = prune_channels(model, analysis, cut)
    assert [n.op_type for n in pruned.graph] == ["Conv", "Conv", "Relu", "Conv"]
    assert not {"w1", "b1", "w2"} & set(pruned.graph.initializers)
    assert error(model, analysis, cut) < 1e-5


def test_together_with_channels_of_the_skip_connection() -> None:
    model = net()
    analysis = analyse(model)
    past = next(g.id for g in analysis.groups if g.size == 16)
    cut = {inner(analysis): NOTHING, past: np.arange(0, 16, 2)}
    assert error(model, analysis, cut) < 1e-5
    dropped = next(n for n in prune_channels(model, analysis, cut).graph if n.outputs[0].name == "a")
    assert dropped.attributes.get_int("group", 1) == 8


def test_without_a_bias() -> None:
    model = canonicalize(build(NET.replace("(r, w2, b2)", "(r, w2)"), **{
        "w0": normal(16, 6, 1, 1), "b0": normal(16), "w1": normal(24, 16, 3, 3), "b1": normal(24),
        "w2": normal(16, 24, 1, 1), "w3": normal(5, 16, 1, 1),
    }))  # fmt: skip
    analysis = analyse(model)
    assert error(model, analysis, {inner(analysis): NOTHING}) < 1e-5


def test_a_scale_and_a_shift_of_each_channel_are_fitted(tmp_path) -> None:
    scale = np.linspace(-1, 1, 16).astype(np.float32)
    first, last = np.zeros((24, 16, 3, 3), np.float32), np.zeros((16, 24, 1, 1), np.float32)
    for c in range(12):  # relu(x) - relu(-x) = x
        first[2 * c, c, 1, 1], first[2 * c + 1, c, 1, 1] = 1, -1
        last[c, 2 * c, 0, 0], last[c, 2 * c + 1, 0, 0] = scale[c], -scale[c]
    model = net(w1=first, b1=np.zeros(24, np.float32), w2=last)
    analysis = analyse(model)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((24, 6, 8, 8)).astype(np.float32))
    data = open_calibration(str(tmp_path / "x.npz"), model)
    cut = {inner(analysis): NOTHING}
    pruned = prune_channels(model, analysis, cut)
    fitted = compensate(model, pruned, analysis, cut, data)
    feeds = next(iter(data.batches(4)))
    wanted, raw, mine = (OnnxRuntime().load(m).run(feeds)[0] for m in (model, pruned, fitted))
    assert np.abs(raw - wanted).max() > 1
    np.testing.assert_allclose(mine, wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)


def behind(activation: str, **weights):
    """The network with an activation between the branch and its sum, as in YOLO's C2f and C3k."""
    return net_of(
        NET.replace("a = Add(k, s)", f"{activation} a = Add(s, q)").replace("t = Relu(a)", "t = Tanh(a)"), **weights
    )


ACTIVATIONS = {
    "silu": "g = Sigmoid(k) q = Mul(k, g)",
    "relu": "q = Relu(k)",
    "leaky": "q = LeakyRelu<alpha=0.1>(k)",
    "hardswish": "q = HardSwish(k)",
    "slopes": "q = PRelu(k, slopes)",
    "gelu": "d = Div(k, root) f = Erf(d) o = Add(f, one) m = Mul(k, o) q = Mul(m, half)",
}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_a_branch_whose_sum_stands_behind_an_activation(name: str) -> None:
    numbers = {"root": np.array(2**0.5), "one": np.array(1.0), "half": np.array(0.5), "slopes": normal(16, 1, 1)}
    model = behind(ACTIVATIONS[name], **{k: v for k, v in numbers.items() if k in ACTIVATIONS[name]})
    analysis = analyse(model)
    cut = {inner(analysis): NOTHING}
    pruned = prune_channels(model, analysis, cut)
    assert [n.op_type for n in pruned.graph] == ["Conv", "Conv", "Tanh", "Conv"]
    assert error(model, analysis, cut) < 1e-5


@pytest.mark.parametrize("activation", ["q = Softmax<axis=1>(k)", "q = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(k)"])
def test_what_mixes_channels_or_positions_before_the_sum_stays(activation: str) -> None:
    model = behind(activation)
    assert not droppable(model, analyse(model).groups)


def test_behind_an_activation_scale_and_shift_are_fitted() -> None:
    model = behind(ACTIVATIONS["silu"], b2=normal(16) + 2)
    analysis = analyse(model)
    cut = {inner(analysis): NOTHING}
    pruned = prune_channels(model, analysis, cut)
    images = np.random.default_rng(0).standard_normal((64, 6, 8, 8)).astype(np.float32)
    fitted = compensate(model, pruned, analysis, cut, calibration(x=images))
    unseen = {"x": np.random.default_rng(1).standard_normal((16, 6, 8, 8)).astype(np.float32)}
    wanted, raw, mine = (OnnxRuntime().load(m).run(unseen)[0] for m in (model, pruned, fitted))
    assert np.square(mine - wanted).sum() < 0.9 * np.square(raw - wanted).sum()


def test_the_shift_of_the_mean_passes_the_activation() -> None:
    model = behind(ACTIVATIONS["silu"])
    (branch,) = droppable(model, analyse(model).groups).values()
    bias = model.graph.initializers["b2"].const_value.numpy()
    shift = np.linspace(-1, 1, 16).astype(np.float32)

    def silu(x):
        return x / (1 + np.exp(-x))

    np.testing.assert_allclose(shift_behind(model, branch, shift), silu(bias + shift) - silu(bias), atol=1e-6)


UNLIKE = """
g (float[n, 6, 8, 8] x) => (float[n, 5, 8, 8] y) {
  s = Conv(x, w0, b0)
  t = Relu(s)
  p = Conv(t, w4, b4)
  h = Conv(x, w1, b1)
  r = Relu(h)
  k = Conv(r, w2, b2)
  a = Add(k, p)
  c = Relu(a)
  y = Conv(c, w3)
}
"""


def test_the_replacement_is_refitted_behind_a_refitted_layer() -> None:
    """The replacement reads the refitted other branch, one level later than the Add that it replaces."""
    model = canonicalize(
        build(
            UNLIKE,
            w0=normal(16, 6, 1, 1),
            b0=normal(16),
            w1=normal(24, 6, 1, 1),
            b1=normal(24),
            w2=normal(12, 24, 1, 1),
            b2=normal(12),
            w3=normal(5, 12, 1, 1),
            w4=normal(12, 16, 1, 1),
            b4=normal(12, seed=1),
        )
    )
    analysis = analyse(model)
    cut = {g.id: {24: NOTHING, 16: np.arange(8)}[g.size] for g in analysis.groups if g.size in (24, 16)}
    pruned = prune_channels(model, analysis, cut)
    images = np.random.default_rng(0).standard_normal((64, 6, 8, 8)).astype(np.float32)
    refitted = compensate(model, pruned, analysis, cut, calibration(x=images))
    unseen = np.random.default_rng(1).standard_normal((16, 6, 8, 8)).astype(np.float32)
    wanted, before, after = (OnnxRuntime().load(m).run({"x": unseen})[0] for m in (model, pruned, refitted))
    assert np.square(after - wanted).sum() < 0.9 * np.square(before - wanted).sum()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (NET.replace("a = Add(k, s)", "a = Mul(k, s)"), "no sum"),
        (NET.replace("y = Conv(t, w3)", "z = Conv(t, w3)\n  e = Conv(r, w4)\n  y = Mul(z, e)"), "read outside"),
        (
            NET.replace("a = Add(k, s)", "p = GlobalAveragePool(s)\n  a = Add(k, p)"),
            "another shape in the skip",
        ),
    ],
)
def test_a_group_that_is_no_whole_branch_is_not_dropped(text: str, why: str) -> None:
    weights = {"w0": normal(16, 6, 1, 1), "b0": normal(16), "w1": normal(24, 16, 3, 3), "b1": normal(24)}
    weights |= {"w2": normal(16, 24, 1, 1), "b2": normal(16), "w3": normal(5, 16, 1, 1)}
    weights |= {"w4": normal(5, 24, 1, 1)} if "w4" in text else {}
    model = canonicalize(build(text, **weights))
    analysis = analyse(model)
    assert not droppable(model, analysis.groups), why
    with pytest.raises(ModelError, match="the group is no whole residual branch"):
        prune_channels(model, analysis, {inner(analysis): NOTHING})


BLOCKS = (MLP, ATTENTION, MLP, ATTENTION, MLP)


def droppables(model: ir.Model, analysis: Analysis) -> dict[str, str]:
    """Name of the sum behind each branch that can be dropped -> its group."""
    sums = {str(n.name): str(n.outputs[0].name) for n in model.graph}
    return {sums[b.sum]: group for group, b in droppable(model, analysis.groups).items()}


def test_branches_of_a_transformer_whose_skip_connection_is_a_sum() -> None:
    model = transformer(*BLOCKS)
    analysis = analyse(model)
    found = droppables(model, analysis)
    assert sorted(found) == ["x2", "x3", "x4", "x5"]  # before the first branch is no MatMul of another one
    assert [analysis.group(found[name]).kind for name in sorted(found)] == ["head", "channel", "head", "channel"]


@pytest.mark.parametrize("sums", [["x2"], ["x3"], ["x2", "x3"], ["x2", "x3", "x4", "x5"], ["x3", "x5"]])
def test_a_transformer_without_branches_equals_a_masked_one(sums: list[str]) -> None:
    model = transformer(*BLOCKS)
    analysis = analyse(model)
    found = droppables(model, analysis)
    cut = {found[name]: NOTHING for name in sums}
    assert error(model, analysis, cut) < 1e-5
    pruned = prune_channels(model, analysis, cut)
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 5, 6)).astype(np.float32)}
    before = OnnxRuntime().load(pruned).run(feeds)[0]
    assert merge_branches(pruned) == len(sums)
    np.testing.assert_allclose(OnnxRuntime().load(pruned).run(feeds)[0], before, atol=1e-6, rtol=1e-5)
    left = transformer(*(b for i, b in enumerate(BLOCKS) if f"x{i + 1}" not in sums))
    assert Counter(n.op_type for n in pruned.graph) == Counter(n.op_type for n in left.graph)


@pytest.mark.parametrize(("last", "merged"), [("v", 1), ("w", 0)])
def test_matmuls_of_one_value_are_added_unless_another_layer_has_the_weight(last: str, merged: int) -> None:
    text = f"""g (float[n, 5, 6] x) => (float[n, 5, 6] y) {{
      h = Relu(x) p = MatMul(h, w) q = Add(p, c) r = Add(x, q) s = MatMul(h, u) t = Add(s, b) a = Add(r, t)
      y = MatMul(a, {last}) }}"""
    model = build(text, c=normal(6), b=normal(6), **{name: normal(6, 6) for name in {"w", "u", last}})
    feeds = {"x": normal(2, 5, 6)}
    before = OnnxRuntime().load(model).run(feeds)[0]
    assert merge_branches(model) == merged
    np.testing.assert_allclose(OnnxRuntime().load(model).run(feeds)[0], before, atol=1e-5)


@pytest.mark.parametrize("sums", [["x3"], ["x2", "x3"]])
def test_what_replaces_a_branch_is_fitted_and_costs_nothing(sums: list[str]) -> None:
    model = transformer(*BLOCKS)
    analysis = analyse(model)
    found = droppables(model, analysis)
    cut = {found[name]: NOTHING for name in sums}
    # Together with a narrower branch before, whose last MatMul they are added to.
    cut[next(g.id for g in analysis.groups if g.size == 24 and g.id not in found.values())] = np.arange(20)
    pruned = prune_channels(model, analysis, cut)
    samples = np.random.default_rng(0).standard_normal((200, 5, 6)).astype(np.float32)
    fitted = compensate(model, pruned, analysis, cut, calibration(x=samples))
    assert merge_branches(fitted) == merge_branches(pruned) == len(sums)
    assert [n.op_type for n in fitted.graph] == [n.op_type for n in pruned.graph]
    feeds = {"x": np.random.default_rng(1).standard_normal((64, 5, 6)).astype(np.float32)}
    wanted, raw, mine = (OnnxRuntime().load(m).run(feeds)[0] for m in (model, pruned, fitted))
    assert np.square(mine - wanted).sum() < 0.5 * np.square(raw - wanted).sum()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("y = MatMul(x5, wout)", "z = Add(x5, x1) y = MatMul(z, wout)", "the skip connection is read elsewhere"),
        ("x2 = Add(x1, f1)", "u2 = Add(x1, f1) x2 = Relu(u2)", "the sum before has an activation"),
        ("f0 = Add(e0, be0)", "j0 = Add(e0, be0) f0 = Relu(j0)", "the branch before ends in no MatMul with a bias"),
    ],
)
def test_a_branch_behind_anything_else_stays(old: str, new: str, why: str) -> None:
    model = transformer(*BLOCKS, change=(old, new))
    analysis = analyse(model)
    missing = {"x2"} if "x5" in old or "f0" in old else {"x3"}
    found = {"x2" if name == "u2" else name for name in droppables(model, analysis)}
    assert found == {"x2", "x3", "x4", "x5"} - missing, why
