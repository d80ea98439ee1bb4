from __future__ import annotations

import importlib.util

import pytest

from edgeprune.passes.openvino import STATED_PRECISION, lower_openvino, state_precision
from tests.passes.graphs import RESIDUAL, build, feeds_for, observed


def test_the_model_states_the_type_of_its_float_layers_and_the_given_one_is_unchanged() -> None:
    model = build(RESIDUAL)
    assert state_precision(model, "bf16").metadata_props[STATED_PRECISION] == "bf16"
    lowered = lower_openvino(model, ["c1"], observed(model), float_precision="fp32")
    assert lowered.metadata_props[STATED_PRECISION] == "fp32"
    assert "QuantizeLinear" in {n.op_type for n in lowered.graph}
    assert STATED_PRECISION not in model.metadata_props
    assert "QuantizeLinear" not in {n.op_type for n in model.graph}


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
def test_int8_and_bfloat16_layers_stand_side_by_side() -> None:
    from edgeprune.backends import OpenVino

    if "bf16" not in OpenVino().float_precisions:
        pytest.skip("the processor has no bfloat16")
    model = build(RESIDUAL)
    runner = OpenVino().load(lower_openvino(model, ["c1"], observed(model), float_precision="bf16"))
    runner.bind(feeds_for(model))
    types = {name: kernel.types[0] for kernel in runner.kernels() for name in kernel.nodes}
    assert (types["c1"], types["c2"]) == ("u8", "bf16")
