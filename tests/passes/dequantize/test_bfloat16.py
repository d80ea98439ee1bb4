"""Models in bfloat16 are compared with what they compute, and keep their inputs and outputs."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto as T
from onnx import helper as h

from edgeprune import compile
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.dequantize.bfloat16 import with_interface
from edgeprune.passes.dequantize.source import float_source

RNG = np.random.default_rng(0)
X = RNG.standard_normal((32, 3, 8, 8)).astype(np.float32)


def brain(*, outside: bool) -> onnx.ModelProto:
    """Two convolutions in bfloat16; with ``outside``, the input and the output are bfloat16, too."""
    kind = T.BFLOAT16 if outside else T.FLOAT
    nodes = [h.make_node("Cast", ["x"], ["h"], "down", to=T.BFLOAT16)] if not outside else []
    nodes += [
        h.make_node("Conv", ["x" if outside else "h", "w1"], ["c"], "c", pads=[1] * 4),
        h.make_node("Relu", ["c"], ["r"], "r"),
        h.make_node("Conv", ["r", "w2"], ["y" if outside else "d"], "d", pads=[1] * 4),
    ]
    nodes += [h.make_node("Cast", ["d"], ["y"], "up", to=T.FLOAT)] if not outside else []
    tensors = []
    for name, shape in (("w1", (16, 3, 3, 3)), ("w2", (8, 16, 3, 3))):
        values = RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        tensors.append(h.make_tensor(name, T.BFLOAT16, shape, values.ravel()))
    ends = [h.make_tensor_value_info(n, kind, ["n", c, 8, 8]) for n, c in (("x", 3), ("y", 8))]
    graph = h.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 22)], ir_version=10)


@pytest.mark.parametrize("outside", [True, False])
def test_the_reference_rounds_what_the_model_holds_in_bfloat16(outside: bool) -> None:
    source = float_source(ir.from_proto(brain(outside=outside)))
    assert source.reference is not None
    (exact,) = OnnxRuntime().load(source.model).run({"x": X})
    (rounded,) = OnnxRuntime().load(source.reference).run({"x": X})
    off = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-4 < off < 2e-2
    assert (rounded.view(np.uint32) & 0xFFFF == 0).all()  # no bits that bfloat16 does not have


def test_float32_and_float16_have_no_reference() -> None:
    assert float_source(ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }'
    )).reference is None  # fmt: skip


@pytest.mark.parametrize(("outside", "target"), [(True, "orin"), (False, "orin"), (True, "cpu")])
def test_it_compiles_and_keeps_its_inputs_and_outputs(outside: bool, target: str, tmp_path: Path) -> None:
    onnx.save(brain(outside=outside), tmp_path / "net.onnx")
    np.savez(tmp_path / "c.npz", x=X)
    report = compile(
        tmp_path / "net.onnx", target, precision="int8", calibration=tmp_path / "c.npz", out=tmp_path / "out"
    )
    assert report.accuracy is not None
    assert report.accuracy.after > 25
    assert any("in bfloat16, which onnxruntime has no CPU kernels for" in w for w in report.warnings)
    written = ir.load(tmp_path / "out" / "model.onnx")
    kind = ir.DataType.BFLOAT16 if outside else ir.DataType.FLOAT
    assert [v.dtype for v in (*written.graph.inputs, *written.graph.outputs)] == [kind, kind]


def test_a_model_without_bfloat16_ends_is_written_as_it_is() -> None:
    source = float_source(ir.from_proto(brain(outside=False)))
    assert with_interface(source.model, source.interface) is source.model
