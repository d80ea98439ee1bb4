"""From a candidate to a model for OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.build.openvino_builder import OpenVinoBuilder
from edgeprune.calibration.calibration import open_calibration
from edgeprune.dependency.solve import analyse
from edgeprune.latency import openvino_lowering
from edgeprune.latency.block_network import network
from edgeprune.passes.openvino import STATED_PRECISION
from edgeprune.testing.oracle import parse
from tests.build.test_x86_builder import CNN, SHAPES


@pytest.fixture
def builder(tmp_path: Path) -> OpenVinoBuilder:
    model = parse(CNN, **SHAPES)
    np.savez(tmp_path / "c.npz", x=np.random.default_rng(0).standard_normal((64, 4, 8, 8)).astype(np.float32) + 0.5)
    data = open_calibration(str(tmp_path / "c.npz"), model, limit=64)
    net = network(model, analyse(model), None, openvino_lowering("bf16"))
    return OpenVinoBuilder(model, net, {}, data, float_format="bf16")


def test_formats_become_pairs_and_a_stated_float_type(builder: OpenVinoBuilder) -> None:
    sizes = builder.network.sizes
    floats = ["bf16"] * len(builder.network.blocks)
    model = builder.build(sizes, floats)
    assert model.metadata_props[STATED_PRECISION] == "bf16"
    assert "QuantizeLinear" not in {n.op_type for n in model.graph}
    formats = ["int8" if "int8" in forms else "bf16" for forms in builder.network.int8_nodes]
    quantized = builder.build(sizes, formats)
    stored = [
        v for v in quantized.graph.initializers.values() if v.dtype == ir.DataType.INT8 and len(v.shape or ()) > 1
    ]
    assert len(stored) == 4  # all weights


def test_weights_and_biases_are_rounded_for_the_data(builder: OpenVinoBuilder) -> None:
    formats = ["int8" if "int8" in forms else "bf16" for forms in builder.network.int8_nodes]
    model = builder.build(builder.network.sizes, formats)
    biases = [model.graph.initializers[name].const_value for name in ("b1", "b2")]
    before = [builder.dense.graph.initializers[name].const_value for name in ("b1", "b2")]
    assert all(b is not None and b.dtype == ir.DataType.FLOAT for b in biases)  # OpenVINO takes float biases
    assert any(not np.array_equal(b.numpy(), o.numpy()) for b, o in zip(biases, before, strict=True) if b and o)
