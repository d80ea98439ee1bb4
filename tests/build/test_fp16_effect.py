"""Which nodes stay in FP32 because of what FP16 changes at the outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeprune.build.fp16_effect import decided_values, noise_share, worse_in_fp16
from edgeprune.calibration.calibration import Calibration, open_calibration
from edgeprune.passes.tensorrt import fp16_eligible
from edgeprune.testing.oracle import canonical

WIDTH = 512
PIXELS = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(8)))[None].astype(np.float32)

WARP = f"""
g (float[n, 3, 8, {WIDTH}] x) => (float[n, 3, 8, {WIDTH}] y) {{
  c = Conv<pads=[1, 1, 1, 1]>(x, w1)
  r = Relu(c)
  flow = Conv<pads=[1, 1, 1, 1]>(r, w2)
  at = Add(base, flow)
  rel = Div(at, size)
  centred = Sub(rel, one)
  grid = Transpose<perm=[0, 2, 3, 1]>(centred)
  y = GridSample<align_corners=1>(x, grid)
}}"""
"""A flow of a few pixels moves an image; its positions are absolute."""

SUM = """
g (float[n, 2000] x) => (float[n, 2000] y) {
  position = CumSum(x, axis)
  turned = Sin(position)
  y = Mul(turned, x)
}"""
"""Positions are sums over a long sequence; a sine reads them."""

PLAIN = """
g (float[n, 3, 8, 8] x) => (float[n, 3, 8, 8] y) {
  c = Conv<pads=[1, 1, 1, 1]>(x, w1)
  r = Relu(c)
  s = Conv<pads=[1, 1, 1, 1]>(r, w2)
  y = Add(x, s)
}"""

TOP = """
g (float[n, 3, 8, 8] x) => (float[n, 5] v, int64[n, 5] i) {
  c = Conv<pads=[1, 1, 1, 1]>(x, w1)
  f = Flatten(c)
  s = Sigmoid(f)
  v, i = TopK(s, five)
}"""


def weight(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return found.astype(np.float32)


def model_of(text: str, **constants: NDArray[Any]) -> ir.Model:
    proto = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n' + text.strip())
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in constants.items())
    return canonical(proto)


def data_for(model: ir.Model, folder: Path, x: NDArray[np.float32]) -> Calibration:
    np.savez(folder / "c.npz", x=x)
    return open_calibration(str(folder / "c.npz"), model)


def worse(model: ir.Model, data: Calibration) -> dict[str, str]:
    """What is found, by the operators of the nodes."""
    ranges = {str(o.name): (-600.0, 600.0) for node in model.graph for o in node.outputs}
    half = [name for name, verdict in fp16_eligible(model, ranges).items() if verdict]
    types = {str(node.name): node.op_type for node in model.graph}
    return {types[name]: reason for name, reason in worse_in_fp16(model, half, data, 1).items()}


@pytest.fixture
def warp() -> ir.Model:
    size, one = np.float32([WIDTH / 2, 4]).reshape(1, 2, 1, 1), np.float32(1)
    return model_of(WARP, w1=weight(8, 3, 3, 3), w2=weight(2, 8, 3, 3), base=PIXELS, size=size, one=one)


def test_pixel_positions_stay_in_fp32_up_to_the_sampling(warp: ir.Model, tmp_path: Path) -> None:
    x = np.random.default_rng(1).random((4, 3, 8, WIDTH)).astype(np.float32)
    found = worse(warp, data_for(warp, tmp_path, x))
    assert set(found) == {"Add", "Div", "Mul", "Sub", "Transpose", "GridSample"} & {n.op_type for n in warp.graph}
    assert "dB at 'y', less than 50" in found["GridSample"]


def test_random_samples_show_it_too(warp: ir.Model) -> None:
    fixed = warp
    assert "GridSample" in worse(fixed, open_calibration("random", fixed))


def test_a_network_without_positions_is_run_once_and_stays_in_fp16(tmp_path: Path) -> None:
    model = model_of(PLAIN, w1=weight(8, 3, 3, 3), w2=weight(3, 8, 3, 3))
    x = np.random.default_rng(1).random((4, 3, 8, 8)).astype(np.float32)
    assert worse(model, data_for(model, tmp_path, x)) == {}


def test_the_sine_of_a_long_sum_stays_in_fp32(tmp_path: Path) -> None:
    model = model_of(SUM, axis=np.array(1))
    half = [str(n.name) for n in model.graph]
    x = np.random.default_rng(1).random((4, 2000)).astype(np.float32)
    found = worse_in_fp16(model, half, data_for(model, tmp_path, x), 1)
    types = {n.op_type for n in model.graph if n.name in found}
    assert types == {"CumSum", "Sin"}


def test_the_error_is_measured_before_what_decides(tmp_path: Path) -> None:
    model = model_of(TOP, w1=weight(8, 3, 3, 3), five=np.array([5]))
    (sorted_by,) = [n.inputs[0].name for n in model.graph if n.op_type == "TopK" and n.inputs[0] is not None]
    assert decided_values(model) == [sorted_by]
    x = np.random.default_rng(1).random((4, 3, 8, 8)).astype(np.float32)
    assert worse(model, data_for(model, tmp_path, x)) == {}


def test_noise_is_a_share_of_the_power_about_the_mean() -> None:
    x = np.array([9.0, 11.0])
    assert noise_share(x, x + 0.1) == pytest.approx(0.01)
    assert noise_share(x, np.array([9.0, np.inf])) == float("inf")
    assert noise_share(np.array([np.inf, 1.0, 2.0]), np.array([np.inf, 1.0, 2.0])) == 0
    assert noise_share(np.full(3, 2.0), np.full(3, 2.02)) == pytest.approx(1e-4)
    assert noise_share(np.zeros(2), np.zeros(2)) == 0


@pytest.mark.parametrize(("steps", "some"), [(4, False), (48, True)])
def test_many_nodes_just_under_the_limit_add_up(steps: int, some: bool, tmp_path: Path) -> None:
    """Every rotation alone leaves more than 50 dB behind the sine; 48 of them leave less than 40."""
    turns = {f"w{k}": np.linalg.qr(weight(24, 24, seed=k))[0].astype(np.float32) for k in range(steps)}
    lines = " ".join(f"h{k + 1} = MatMul(h{k}, w{k})" for k in range(steps))
    text = f"g (float[n, 24] x) => (float[n, 24] y) {{ h0 = Relu(x) {lines} m = Mul(h{steps}, four) y = Sin(m) }}"
    model = model_of(text, four=np.float32(7), **turns)
    x = 1.4 * np.random.default_rng(1).standard_normal((400, 24)).astype(np.float32)
    data, half = data_for(model, tmp_path, x), [str(n.name) for n in model.graph if n.op_type == "MatMul"]
    found = worse_in_fp16(model, half, data, 1)
    assert bool(found) == some
    assert len(found) < len(half)
    assert all("FP16 in all nodes leaves" in reason for reason in found.values())
