from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.errors import BackendError, ModelError, UsageError

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[batch, 3, height, 4] x, int64[2] i) => (float[batch, 3, height, 4] y, int64[2] j)
{ y = Relu(x)  j = Identity(i) }
"""


def serialized(text: str = MODEL) -> bytes:
    return onnx.parser.parse_model(text).SerializeToString()


def test_runs_a_model_from_bytes_and_from_a_file(tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(serialized())
    x, i = np.array([-1.0, 2.0, 3.0, 4.0], np.float32).reshape(1, 1, 1, 4).repeat(3, 1), np.array([5, 6])
    for model in (serialized(), tmp_path / "net.onnx", str(tmp_path / "net.onnx")):
        y, j = OnnxRuntime().load(model).run({"x": x, "i": i})
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        np.testing.assert_array_equal(j, i)


def test_describes_its_ports():
    runner = OnnxRuntime(threads=2).load(serialized())
    assert runner.inputs[0].shape == ("batch", 3, "height", 4)
    assert [port.name for port in runner.outputs] == ["y", "j"]


def test_random_feeds_fit_and_repeat():
    runner = OnnxRuntime().load(serialized())
    first, again = (runner.random_feeds(3, {"x": (2, 3, 5, 4)}) for _ in range(2))
    assert first["x"].dtype == np.float32
    assert first["i"].dtype == np.int64
    assert set(first["i"].tolist()) <= {0, 1}
    np.testing.assert_array_equal(first["x"], again["x"])
    assert runner.bind(first)() is not None


def test_an_open_batch_is_one_and_other_open_sizes_are_asked_for():
    runner = OnnxRuntime().load(serialized(MODEL.replace("height", "7")))
    assert runner.random_feeds()["x"].shape == (1, 3, 7, 4)
    with pytest.raises(UsageError, match=r"'x' \(\?x3x\?x4\) has the open size 'height': give --shape x="):
        OnnxRuntime().load(serialized()).random_feeds()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (1, 3, 5)}, "shape 1x3x5 does not fit input 'x', which is batchx3xheightx4"),
        ({"x": (1, 4, 5, 4)}, "does not fit"),
        ({"x": (1, 3, 0, 4)}, "does not fit"),
        ({"z": (1,)}, "no input 'z'; its inputs are: x, i"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: dict[str, tuple[int, ...]], message: str):
    with pytest.raises(UsageError, match=message):
        OnnxRuntime().load(serialized()).random_feeds(shapes=shapes)


def test_an_input_that_numpy_cannot_hold_is_refused():
    text = MODEL.replace("int64", "string")
    with pytest.raises(ModelError, match=r"input 'i' has type tensor\(string\)"):
        OnnxRuntime().load(serialized(text)).random_feeds(shapes={"x": (1, 3, 5, 4)})


def test_a_bad_feed_is_one_sentence():
    runner = OnnxRuntime().load(serialized())
    with pytest.raises(BackendError, match="could not run the model") as caught:
        runner.run({"x": np.zeros((1, 2, 3, 4), np.float32), "i": np.zeros(2, np.int64)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [b"", b"no model", serialized(MODEL.replace("Relu", "NoSuchOp"))])
def test_a_bad_model_is_one_sentence(model: bytes):
    with pytest.raises(ModelError, match="does not accept the model") as caught:
        OnnxRuntime().load(model)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no file .*none\.onnx"):
        OnnxRuntime().load(tmp_path / "none.onnx")


def test_threads_spin_only_on_cores_of_their_own():
    assert OnnxRuntime(threads=1).spinning
    assert not OnnxRuntime(threads=4096).spinning
    assert not OnnxRuntime(threads=1, spinning=False).spinning


def test_without_an_arena_memory_is_not_held_for_the_next_run():
    assert OnnxRuntime()._options(None).enable_cpu_mem_arena
    assert not OnnxRuntime(arena=False)._options(None).enable_cpu_mem_arena


def test_no_threads_are_refused():
    with pytest.raises(UsageError, match="at least 1"):
        OnnxRuntime(threads=0)


def test_weights_in_any_memory_order_are_taken():
    import onnx_ir as ir

    model = ir.from_proto(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 64] x) => (float[1, 48] y) { y = MatMul(x, w) }'
        )
    )
    weight = np.random.default_rng(0).standard_normal((48, 64)).astype(np.float32).T
    assert not weight.flags.c_contiguous
    value = ir.Value(name="w", const_value=ir.Tensor(weight, name="w"), type=ir.TensorType(ir.DataType.FLOAT))
    next(iter(model.graph)).replace_input_with(1, value)
    model.graph.register_initializer(value)
    x = np.ones((1, 64), np.float32)
    np.testing.assert_allclose(OnnxRuntime().load(model).run({"x": x})[0], x @ weight, rtol=1e-5, atol=1e-5)


def test_a_valid_model_that_its_fusion_breaks_runs_without() -> None:
    """Exporters write scales of one element as vectors; onnxruntime's QLinearAdd takes scalars alone."""
    text = """<ir_version: 8, opset_import: ["" : 13]>
    g (float[2,4] x, float[2,4] x2) => (float[2,4] y) <float[1] s = {0.1}, int8[1] z = {0}> {
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)
        q2 = QuantizeLinear(x2, s, z) d2 = DequantizeLinear(q2, s, z) r = Add(d, d2)
        t = QuantizeLinear(r, s, z) y = DequantizeLinear(t, s, z)
    }"""
    runner = OnnxRuntime().load(onnx.parser.parse_model(text).SerializeToString())
    assert runner.note.startswith("onnxruntime cannot fuse the nodes of the model and runs it without: ")
    x = np.array([[0.1, 0.2, 0.3, -0.4]] * 2, np.float32)
    np.testing.assert_allclose(runner.run({"x": x, "x2": x})[0], 2 * x, atol=1e-6)
    assert not OnnxRuntime().load(serialized()).note
