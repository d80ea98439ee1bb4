"""From a candidate to a model for x86."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build import model_builder
from edgeprune.build.x86_builder import X86Builder
from edgeprune.calibration.calibration import open_calibration
from edgeprune.dependency.solve import analyse
from edgeprune.latency.block_network import network
from edgeprune.testing.oracle import parse

CNN = """
g (float[n, 4, 8, 8] x) => (float[n, 6] y) {
  c = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(c)
  d = Conv<pads=[1, 1, 1, 1]>(r, w2, b2)
  s = Softmax<axis=1>(d)
  e = Conv(s, w3, b3)
  p = GlobalAveragePool(e)
  f = Flatten(p)
  y = Gemm<transB=1>(f, w4, b4)
}
"""
SHAPES = {
    "w1": (8, 4, 3, 3),
    "b1": (8,),
    "w2": (8, 8, 3, 3),
    "b2": (8,),
    "w3": (8, 8, 1, 1),
    "b3": (8,),
    "w4": (6, 8),
    "b4": (6,),
}


@pytest.fixture
def model() -> ir.Model:
    return parse(CNN, **SHAPES)


@pytest.fixture
def samples() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((64, 4, 8, 8)).astype(np.float32) + 0.5


def builder_of(model: ir.Model, spec: str) -> X86Builder:
    return X86Builder(model, network(model, analyse(model)), {}, open_calibration(spec, model, limit=64))


def formats_of(builder: X86Builder, wanted: str) -> list[str]:
    return [wanted if wanted in forms else "fp32" for forms in builder.network.int8_nodes]


def built(builder: X86Builder, wanted: str) -> ir.Model:
    return builder.build(builder.network.sizes, formats_of(builder, wanted))


def test_float_is_the_same_function_in_a_faster_form(
    model: ir.Model, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=samples)
    found = built(builder_of(model, str(tmp_path / "x.npz")), "fp32")
    assert [n.attributes.get_int("axis") for n in found.graph if n.op_type == "Softmax"] == [-1]
    (want,), (got,) = (OnnxRuntime().load(m).run({"x": samples}) for m in (model, found))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_int8_keeps_the_mean_of_the_outputs(model: ir.Model, samples: NDArray[np.float32], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=samples)
    builder = builder_of(model, str(tmp_path / "x.npz"))
    found = built(builder, "int8")
    assert sum(n.op_type == "DequantizeLinear" for n in found.graph) > 4
    (want,), (got,) = (OnnxRuntime().load(m).run({"x": samples}) for m in (model, found))
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()
    assert np.abs((got - want).mean(axis=0)).max() < 0.01 * np.abs(want).max()


def test_the_same_candidate_is_built_once(model: ir.Model, samples: NDArray[np.float32], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=samples)
    builder = builder_of(model, str(tmp_path / "x.npz"))
    assert built(builder, "int8") is built(builder, "int8")


def test_random_data_moves_no_bias(model: ir.Model) -> None:
    builder = builder_of(model, "random")
    assert builder.rounded(model, [str(n.name) for n in model.graph], {}) is model


def test_a_cut_network_gets_ranges_by_the_known_calibrators(
    model: ir.Model, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=samples)
    builder = builder_of(model, str(tmp_path / "x.npz"))
    builder.calibrators |= dict.fromkeys(builder.quantizable_values(model), "max") | {"x": "entropy", "r": "p99.99"}
    cut = ir.from_proto(ir.to_proto(model))
    found = builder.ranges(cut, ["x", "r"], builder.data)
    assert {name: r.calibrator for name, r in found.items()} == {"x": "entropy", "r": "p99.99"}
    assert found["r"].low == 0.0


@pytest.mark.parametrize("known", [{}, {"x": "entropy"}])
def test_ranges_do_not_depend_on_what_was_asked_before(
    model: ir.Model, samples: NDArray[np.float32], tmp_path: Path, known: dict[str, str]
) -> None:
    """A warm cache saves some builds, so another set of names may be the first."""
    np.savez(tmp_path / "x.npz", x=samples)
    for asked in (model, ir.from_proto(ir.to_proto(model))):
        found = []
        for first in (["x"], ["r"]):
            builder = builder_of(model, str(tmp_path / "x.npz"))
            builder.calibrators |= known
            builder.ranges(asked, first, builder.data)
            found.append(builder.ranges(asked, ["x", "r"], builder.data))
        assert found[0] == found[1]


def test_calibrators_that_are_known_only_in_part_are_chosen(
    model: ir.Model, samples: NDArray[np.float32], tmp_path: Path
) -> None:
    np.savez(tmp_path / "x.npz", x=samples)
    builder, fresh = builder_of(model, str(tmp_path / "x.npz")), builder_of(model, str(tmp_path / "x.npz"))
    builder.calibrators |= {"x": "entropy"}
    assert builder.ranges(model, ["x", "r"], builder.data) == fresh.ranges(model, ["x", "r"], fresh.data)


def test_calibrators_are_chosen_once_for_all_networks(
    model: ir.Model, samples: NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "x.npz", x=samples)
    builder, calls = builder_of(model, str(tmp_path / "x.npz")), []
    real = model_builder.best_ranges
    monkeypatch.setattr(model_builder, "best_ranges", lambda *a, **k: calls.append(a[0]) or real(*a, **k))
    for asked in (ir.from_proto(ir.to_proto(model)), model, ir.from_proto(ir.to_proto(model))):
        builder.ranges(asked, ["x", "r"], builder.data)
    assert calls == [model]
