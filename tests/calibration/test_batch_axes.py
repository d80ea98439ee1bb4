"""Batches that are not the first axis, shared inputs, and samples that are no batch."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.calibration import open_calibration
from edgeprune.graph import infer_shapes

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
WORDS = """
g (float[batch, 3, width] line) => (float[steps, batch, 5] y, float[1, batch, 5] state)
<float[20, 3, 1] w, float[20, 5, 1] r> {
  t = Transpose<perm = [2, 0, 1]>(line)
  l, state = LSTM<hidden_size = 5>(t, lw, lr)
  axis = Constant<value = int64[1] {1}>()
  y = Squeeze(l, axis)
}
"""
TIME_FIRST = """
g (float[AXES, 3] x) => (float[t, 1, b, 5] y) { y = LSTM<hidden_size = 5>(x, lw, lr) }
"""
CLOUD = """
g (float[points, 4] cloud) => (float[1, 4] y) { y = ReduceMax<axes = [0]>(cloud) }
"""
SCALED = """
g (float[batch, 3, 4, 4] x, float[1] factor, float threshold) => (float[batch, 3, 4, 4] y) {
  a = Mul(x, factor)
  y = Sub(a, threshold)
}
"""
TEXTS = """
g (float[images, 6] x, float[texts, 6] words) => (float[images, texts] y) {
  t = Transpose<perm = [1, 0]>(words)
  y = MatMul(x, t)
}
"""


def model(text: str) -> ir.Model:
    rng = np.random.default_rng(0)
    weights = {"lw": rng.standard_normal((1, 20, 3)), "lr": rng.standard_normal((1, 20, 5))}
    tensors = [ir.tensor(v.astype(np.float32), name=n) for n, v in weights.items() if n in text]
    text = text.replace("<float[20, 3, 1] w, float[20, 5, 1] r> ", "")
    return infer_shapes(ir.from_onnx_text(f"{HEADER}\n{text}", initializers=tensors))


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def test_outputs_may_have_the_time_before_the_batch(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", line=normal(12, 3, 7))
    data = open_calibration(str(tmp_path / "c.npz"), model(WORDS))
    assert (data.items, data.axes.inputs, data.axes.outputs) == (12, {"line": 0}, {"y": 1, "state": 1})
    assert not data.batchable
    assert {feeds["line"].shape for feeds in data.batches(8)} == {(1, 3, 7)}


@pytest.mark.parametrize("axes", ["steps, batch", "a, b", "6, n", "7, clips", "6, 1"])
def test_the_batch_of_a_recurrent_network_is_the_second_axis(tmp_path: Path, axes: str) -> None:
    steps = int(axes[0]) if axes[0].isdigit() else 6
    x = normal(steps, 10, 3)
    np.savez(tmp_path / "c.npz", x=x)
    data = open_calibration(str(tmp_path / "c.npz"), model(TIME_FIRST.replace("AXES", axes)))
    assert data.samples == 10
    samples = [feeds["x"] for feeds in data.batches()]
    np.testing.assert_array_equal(np.concatenate(samples, axis=1), x)
    fit, held_out = data.split()
    assert fit.items + held_out.items == 10


def test_a_cloud_of_points_is_one_sample_and_stacked_clouds_are_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", cloud=normal(50, 4))
    np.savez(tmp_path / "many.npz", cloud=normal(6, 50, 4))
    one = open_calibration(str(tmp_path / "one.npz"), model(CLOUD))
    many = open_calibration(str(tmp_path / "many.npz"), model(CLOUD))
    assert [f["cloud"].shape for f in one.batches()] == [(50, 4)]
    assert [f["cloud"].shape for f in many.batches()] == [(50, 4)] * 6
    assert (one.samples, many.samples) == (1, 6)


@pytest.mark.parametrize("factor", [np.float32(0.5), np.full(1, 0.5, np.float32), np.full(9, 0.5, np.float32)])
@pytest.mark.parametrize("threshold", [np.float32(2), np.full(1, 2, np.float32), np.full(9, 2, np.float32)])
def test_extra_inputs_of_one_number(tmp_path: Path, factor: np.ndarray, threshold: np.ndarray) -> None:
    np.savez(tmp_path / "c.npz", x=normal(9, 3, 4, 4), factor=factor, threshold=threshold)
    data = open_calibration(str(tmp_path / "c.npz"), model(SCALED))
    feeds = list(data.batches(4))
    assert sum(data.rows(f) for f in feeds) == data.samples == 9
    assert {(f["factor"].shape, f["threshold"].shape) for f in feeds} == {((1,), ())}
    assert {(float(f["factor"][0]), float(f["threshold"])) for f in feeds} == {(0.5, 2.0)}


@pytest.mark.parametrize("texts", [5, 8])
def test_inputs_of_another_batch_are_given_whole(tmp_path: Path, texts: int) -> None:
    np.savez(tmp_path / "c.npz", x=normal(8, 6), words=normal(texts, 6))
    data = open_calibration(str(tmp_path / "c.npz"), model(TEXTS))
    assert data.samples == 8
    assert {f["words"].shape for f in data.batches()} == {(texts, 6)}
    assert "the same words in every sample" in data.describe()


def test_a_baked_batch_is_run_one_by_one(tmp_path: Path) -> None:
    text = "g (float[unk, 3, 4] x) => (float[1, 12] y) { y = Reshape(x, s) }"
    baked = ir.from_onnx_text(f"{HEADER}\n{text}", initializers=[ir.tensor(np.array([1, 12]), name="s")])
    np.savez(tmp_path / "c.npz", x=normal(5, 3, 4))
    data = open_calibration(str(tmp_path / "c.npz"), baked)
    assert [f["x"].shape for f in data.batches(4)] == [(1, 3, 4)] * 5


def test_random_data_for_states_and_factors(tmp_path: Path) -> None:
    text = "g (float[2, batch, 3] state, float[1] scale) => (float[2, batch, 3] y) { y = Mul(state, scale) }"
    data = open_calibration("random", model(text), limit=4)
    for feeds in data.batches(1):
        assert feeds["state"].shape == (2, 1, 3)
        assert 0.25 <= float(feeds["scale"][0]) <= 2
