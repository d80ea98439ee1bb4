"""From a candidate to a model for TensorRT."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeprune.backends import simulation
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build.tensorrt_builder import TensorRtBuilder
from edgeprune.calibration.calibration import open_calibration
from edgeprune.dependency.solve import analyse
from edgeprune.devices.targets import load_profile
from edgeprune.graph.model_io import clone, infer_shapes
from edgeprune.importance import rank
from edgeprune.latency.kernel_network import gpu_network
from edgeprune.passes.prune.sparsify import sparsify
from edgeprune.testing.oracle import parse

CNN = """
g (float[n, 32, 12, 12] x) => (float[n, 8] y) {
  c = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(c)
  d = Conv<pads=[1, 1, 1, 1]>(r, w2, b2)
  s = Relu(d)
  e = Conv(s, w3, b3)
  p = GlobalAveragePool(e)
  f = Flatten(p)
  y = Gemm<transB=1>(f, w4, b4)
}
"""
SHAPES = {
    "w1": (32, 32, 3, 3),
    "b1": (32,),
    "w2": (32, 32, 3, 3),
    "b2": (32,),
    "w3": (32, 32, 1, 1),
    "b3": (32,),
    "w4": (8, 32),
    "b4": (8,),
}
FORMATS = ("fp16", "int8")


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return parse(CNN, **SHAPES)


@pytest.fixture(scope="module")
def samples() -> NDArray[np.float32]:
    x = np.random.default_rng(0).standard_normal((48, 32, 12, 12)).astype(np.float32)
    x[0, 0, 0, 0] = 200.0  # an outlier that must not set the scale of the whole tensor
    return x


@pytest.fixture(scope="module")
def builder(model: ir.Model, samples: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> TensorRtBuilder:
    file = tmp_path_factory.mktemp("data") / "x.npz"
    np.savez(file, x=samples)
    return builder_of(model, str(file))


def builder_of(model: ir.Model, spec: str) -> TensorRtBuilder:
    sparse = [str(n.name) for n in model.graph if n.op_type == "Conv"]
    device, fixed = load_profile("orin").device(), infer_shapes(clone(model), {"x": (1, 32, 12, 12)})
    found = gpu_network(fixed, analyse(model), device, FORMATS, step=16, error=0.1, sparse=sparse)
    data = open_calibration(spec, model, limit=48)
    rankings = rank("l2", model, analyse(model))
    return TensorRtBuilder(model, found.network, rankings, data, float_format="fp16", versions=("10.3", "11.0"))


def formats(builder: TensorRtBuilder, *wanted: str) -> list[str]:
    """Of every kernel the first of the wanted formats that it has."""
    return [next((w for w in wanted if w in forms), "fp16") for forms in builder.network.int8_nodes]


def error(builder: TensorRtBuilder, built: ir.Model, samples: NDArray[np.float32]) -> float:
    """Root mean square error of a built model against the float one, relative to the outputs."""
    (want,) = OnnxRuntime().load(builder.dense).run({"x": samples})
    (got,) = simulation.load(built).run({"x": samples})
    return float(np.sqrt(((got - want) ** 2).mean() / (want**2).mean()))


def scales(model: ir.Model) -> dict[str, float]:
    """Quantized activation -> its scale."""
    found = {}
    for node in model.graph:
        scale = node.inputs[1].const_value if node.op_type == "QuantizeLinear" and node.inputs[1] is not None else None
        if scale is not None:
            found[str(node.inputs[0].name)] = float(scale.numpy())  # type: ignore[union-attr]
    return found


def weight(model: ir.Model, name: str) -> NDArray[np.generic]:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_ranges_are_symmetric_and_clip_an_outlier(
    builder: TensorRtBuilder, model: ir.Model, samples: NDArray[np.float32]
) -> None:
    ranges = builder.bounds(model, ["x", "r", "s"], builder.data)
    assert all(low == -high for low, high in ranges.values())
    assert ranges["x"][1] < 100
    built = builder.build(builder.network.sizes, formats(builder, "int8"))
    assert scales(built)["x"] == pytest.approx(ranges["x"][1] / 127, rel=1e-3)
    assert error(builder, built, samples[1:]) < 0.05


def test_ranges_for_timing_are_the_extremes(builder: TensorRtBuilder, model: ir.Model) -> None:
    ranges = builder.for_timing(builder.data).bounds(model, ["x"], builder.data)
    assert ranges["x"] == pytest.approx((-200, 200))


def test_biases_keep_the_means(builder: TensorRtBuilder, samples: NDArray[np.float32]) -> None:
    built = builder.build(builder.network.sizes, formats(builder, "int8"))
    (want,) = OnnxRuntime().load(builder.dense).run({"x": samples})
    (got,) = simulation.load(built).run({"x": samples})
    assert np.abs((got - want).mean(axis=0)).max() < 0.01 * np.abs(want).max()


def test_channels_are_reordered_for_sparsity(builder: TensorRtBuilder) -> None:
    sparse = formats(builder, "fp16+2:4")
    nodes = sorted(builder.sparse_nodes(builder.dense, sparse))
    assert len(nodes) == 3
    built = builder.build(builder.network.sizes, sparse)
    plain = sparsify(builder.dense, nodes, builder.data)
    reordered = sparsify(builder.dense, nodes, builder.data, groups=analyse(builder.dense).groups)
    found, without, expected = (weight(m, "w2") for m in (built, plain, reordered))
    np.testing.assert_array_equal(found, expected.astype(np.float16))
    assert (found != without.astype(np.float16)).any()


def test_dense_and_sparse_int8_in_one_model(builder: TensorRtBuilder, samples: NDArray[np.float32]) -> None:
    mixed = formats(builder, "int8+2:4", "int8")
    mixed[0] = "int8"
    built = builder.build(builder.network.sizes, mixed)
    dense, sparse, small = (weight(built, f"{name}_quantized") for name in ("w1", "w2", "w3"))
    for fours in (sparse.reshape(32, 8, 4, 9), small.reshape(32, 8, 4, 1)):
        assert (np.count_nonzero(fours, axis=2) <= 2).all()
    assert np.count_nonzero(dense) > 0.9 * dense.size
    assert error(builder, built, samples[1:]) < 0.1


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_learned_weights_are_scored_as_tensorrt_computes_them(builder: TensorRtBuilder, form: str) -> None:
    widths, wanted = builder.network.sizes // 2, formats(builder, form)
    before = builder.build(widths, wanted)
    scored = []
    builder.simulated = lambda model: scored.append(model) or simulation.rounded_float32(model)  # type: ignore[method-assign, func-returns-value]
    stayed = builder.recover(widths, wanted)
    del builder.simulated  # type: ignore[method-assign]
    after = builder.build(widths, wanted)
    assert scored == [before, scored[1]]
    assert stayed == (after is scored[1])
    assert stayed or after is before
