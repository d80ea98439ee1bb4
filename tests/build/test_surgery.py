from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.build.surgery import operate
from edgeprune.errors import BackendError, ModelError, UsageError
from tests.passes.graphs import build, run

pytest.importorskip("onnx_graphsurgeon", reason="onnx-graphsurgeon is not installed: pip install 'edgeprune[surgery]'")


def detector(shape: str, outputs: str = "float[{}] head") -> ir.Model:
    return build(f"""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[{shape}] x) => ({outputs.format(shape)}) {{ head = Identity(x) }}
    """)


def before_nms(model: ir.Model) -> tuple[onnx.ModelProto, onnx.NodeProto]:
    """The graph up to the plugin, with the plugin's inputs as outputs, so that onnxruntime can run it."""
    proto = ir.to_proto(model)
    (nms,) = (n for n in proto.graph.node if n.op_type == "EfficientNMS_TRT")
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, [None] * 3) for n in nms.input)
    copy = onnx.NodeProto.FromString(nms.SerializeToString())
    proto.graph.node.remove(nms)
    return proto, copy


def test_efficient_nms_on_a_head_without_objectness():
    model = operate(detector("1, 84, 2100"), "efficient-nms:score=0.3,iou=0.6,boxes=50,classes=80")
    assert [v.name for v in model.graph.outputs] == ["num_dets", "det_boxes", "det_scores", "det_classes"]
    assert [list(v.shape) for v in model.graph.outputs] == [[1, 1], [1, 50, 4], [1, 50], [1, 50]]
    assert [v.dtype for v in model.graph.outputs] == [ir.DataType(n) for n in (6, 1, 1, 6)]
    proto, nms = before_nms(model)
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in nms.attribute}
    assert (nms.domain, settings["plugin_version"], settings["box_coding"]) == ("TRT", b"1", 1)
    assert settings["score_threshold"] == pytest.approx(0.3)
    assert settings["iou_threshold"] == pytest.approx(0.6)
    x = np.random.default_rng(0).random((1, 84, 2100), np.float32)
    boxes, scores = run(proto, {"x": x})
    np.testing.assert_array_equal(boxes, x[:, :4].transpose(0, 2, 1))
    np.testing.assert_array_equal(scores, x[:, 4:].transpose(0, 2, 1))


def test_efficient_nms_on_a_head_with_objectness():
    proto, _ = before_nms(operate(detector("1, 2100, 85"), "efficient-nms"))
    x = np.random.default_rng(0).random((1, 2100, 85), np.float32)
    boxes, scores = run(proto, {"x": x})
    np.testing.assert_array_equal(boxes, x[..., :4])
    np.testing.assert_array_equal(scores, x[..., 5:] * x[..., 4:5])


@pytest.mark.parametrize(
    ("shape", "spec", "message"),
    [
        ("1, 300, 6", "efficient-nms", "final detections already"),
        ("1, 1000", "efficient-nms", "one output of three axes"),
        ("1, 84, N", "efficient-nms", "fixed number of anchors"),
        ("1, 116, 2100", "efficient-nms:classes=80", "room for 112 classes, not for 80"),
    ],
)
def test_other_heads_are_refused(shape: str, spec: str, message: str):
    with pytest.raises(ModelError, match=message):
        operate(detector(shape), spec)


@pytest.mark.parametrize(
    "spec",
    ["nms", "efficient-nms:threshold=1", "efficient-nms:score=high", "efficient-nms:iou=3", "efficient-nms:boxes=0"],
)
def test_other_specifications_are_refused(spec: str):
    with pytest.raises(UsageError, match="--surgery"):
        operate(detector("1, 84, 2100"), spec)


def hook(folder: Path, body: str) -> str:
    (folder / "hook.py").write_text(
        f"import numpy as np\nimport onnx_graphsurgeon as gs\ndef change(graph):\n    {body}\n"
    )
    return f"{folder / 'hook.py'}:change"


def test_a_function_may_change_the_graph_in_place(tmp_path: Path):
    spec = hook(tmp_path, "graph.nodes[0].op = 'Neg'")
    changed = operate(detector("1, 4"), spec)
    assert run(changed, {"x": np.ones((1, 4), np.float32)})[0].tolist() == [[-1.0] * 4]


def test_a_function_may_return_another_graph_with_a_plugin(tmp_path: Path):
    body = "graph.nodes[0].op = 'Swoosh_TRT'; graph.nodes[0].domain = 'TRT'; return graph.copy()"
    changed = operate(detector("1, 4"), hook(tmp_path, body))
    assert changed.graph[0].op_type == "Swoosh_TRT"
    assert changed.graph.opset_imports["TRT"] == 1


def test_what_goes_wrong_in_a_function_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        operate(detector("1, 4"), hook(tmp_path, "1 / 0"))
    with pytest.raises(UsageError, match="returned a int"):
        operate(detector("1, 4"), hook(tmp_path, "return 3"))
    with pytest.raises(ModelError, match="no valid model"):
        operate(detector("1, 4"), hook(tmp_path, "graph.nodes[0].op = 'Nonsense'"))
    with pytest.raises(UsageError, match="does not exist"):
        operate(detector("1, 4"), f"{tmp_path}/absent.py:change")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnx_graphsurgeon", None)
    with pytest.raises(BackendError, match=r"edgeprune\[surgery\]"):
        operate(detector("1, 4"), "efficient-nms")
