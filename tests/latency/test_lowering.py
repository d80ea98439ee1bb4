from __future__ import annotations

import onnx_ir as ir

from edgeprune.costmodel import partition
from edgeprune.latency.lowering import X86, onnxruntime_lowering, openvino_lowering
from edgeprune.passes.openvino import STATED_PRECISION
from tests.passes.graphs import RESIDUAL, build, observed


def test_the_formats_of_openvino_have_the_float_type_of_the_processor() -> None:
    model = build(RESIDUAL)
    blocks = partition(model)
    forms = dict(zip((b.anchor for b in blocks), openvino_lowering("bf16").int8_nodes(model, blocks), strict=True))
    assert forms["c2"] == {"bf16": frozenset(), "int8": frozenset({"c2"})}
    assert forms["cat"] == {"bf16": frozenset(), "int8": frozenset()}  # it only moves values
    assert {f for form in X86.int8_nodes(model, blocks) for f in form} == {"fp32", "int8", "int8-core"}


def test_both_lower_a_network_to_their_own_form() -> None:
    model = build(RESIDUAL)
    for lowering in (X86, openvino_lowering("bf16")):
        int8 = [name for name, verdict in lowering.int8_eligible(model).items() if verdict and name in ("c1", "c2")]
        lowered = lowering.lowered(model, int8, observed(model))
        types = [n.outputs[0].dtype for n in lowered.graph if n.op_type == "QuantizeLinear"]
        assert set(types) == {ir.DataType.UINT8}
        assert (STATED_PRECISION in lowered.metadata_props) == (lowering.runtime == "openvino")


def test_an_arm_processor_gets_signed_activations() -> None:
    assert onnxruntime_lowering(("avx512f", "avx512_vnni")) is X86
    lowering = onnxruntime_lowering(("asimd", "asimddp"))
    model = build(RESIDUAL)
    int8 = [name for name, verdict in lowering.int8_eligible(model).items() if verdict]
    lowered = lowering.lowered(model, int8, {**observed(model), "image": (-4.0, 4.0)})
    types = {v.dtype for n in lowered.graph for v in n.outputs}
    assert ir.DataType.INT8 in types
    assert ir.DataType.UINT8 not in types
    assert [lowering.name_of(f) for f in ("fp32", "int8", "int8-core")] == ["fp32", "int8_arm", "int8_arm-core"]
    assert X86.name_of("int8") == "int8"
    assert lowering.form != X86.form  # times that were cached for another form do not count
