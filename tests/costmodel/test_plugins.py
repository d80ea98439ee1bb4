"""Plugins: EfficientNMS has a price, others are said to have none."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeprune.costmodel.plugins import plugin_notes
from edgeprune.costmodel.prediction import model_latency_us
from edgeprune.devices.targets import load_profile

ORIN = load_profile("orin")


def detector(op: str, anchors: int = 8400, domain: str = "TRT") -> ir.Model:
    """Boxes and scores of a head, which a plugin reads."""
    shapes = {"boxes": [1, anchors, 4], "scores": [1, anchors, 80], "b": [1, anchors, 4], "s": [1, anchors, 80]}
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    out = helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, 100, 4])
    nodes = [
        helper.make_node("Relu", ["boxes"], ["b"], name="rb"),
        helper.make_node("Sigmoid", ["scores"], ["s"], name="rs"),
        helper.make_node(op, ["b", "s"], ["dets"], name="plugin", domain=domain),
    ]
    graph = helper.make_graph(
        nodes, "g", [values["boxes"], values["scores"]], [out], value_info=[values["b"], values["s"]]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets)
    return ir.from_proto(proto)


def test_efficient_nms_is_priced_from_published_times() -> None:
    found = model_latency_us(detector("EfficientNMS_TRT"), ORIN, "fp16")
    (kernel,) = [k for k in found.kernels if k.kind == "nms"]
    assert 50 < kernel.latency_us < 500
    assert any("EfficientNMS_TRT 'plugin' is priced from published times" in text for text in found.outside)
    more = model_latency_us(detector("EfficientNMS_TRT", anchors=33600), ORIN, "fp16")
    assert more.latency_ms > found.latency_ms


def test_a_compile_says_what_the_plugin_adds() -> None:
    """Surgery comes behind the prediction, so the plugin's time is not in it."""
    (said,) = plugin_notes(detector("EfficientNMS_TRT"), ORIN.device(), counted=False)
    assert "is not in the predicted time: about 0." in said
    assert "from published times" in said


@pytest.mark.parametrize(("counted", "text"), [(True, "counts as a copy"), (False, "is not in the predicted time")])
def test_any_other_plugin_has_no_price(counted: bool, text: str) -> None:
    (said,) = plugin_notes(detector("ROIAlignX_TRT"), ORIN.device(), counted=counted)
    assert text in said
    assert "nothing is known about this plugin" in said
