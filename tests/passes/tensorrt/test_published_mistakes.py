"""Mistakes that others measured in INT8 and FP16 engines (docs/hardware-status.md): this lowering makes none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune.build.tensorrt_builder import float_extremes
from edgeprune.calibration import open_calibration
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.tensorrt.fp16_rules import fp16_eligible
from edgeprune.passes.tensorrt.int8_nodes import int8_eligible
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from tests.models import single

VERSIONS = ("10.3", "11.0")
BLOCK = """
g (float[1,32,8,8] x) => (float[1,32,8,8] y) {
  a = Conv(x, w1)
  s = Sigmoid(a)
  m = Mul(a, s)
  b = Conv(m, w2)
  t = Sigmoid(b)
  y = Mul(b, t)
}
"""


def block() -> ir.Model:
    return single(BLOCK, w1=(32, 32, 1, 1), w2=(32, 32, 1, 1))


def lowered(model: ir.Model, floats: str = "fp16") -> ir.Model:
    precision = {name: "int8" if verdict else floats for name, verdict in int8_eligible(model).items()}
    ranges = {str(v.name): (-4.0, 4.0) for n in model.graph for v in (*n.inputs, *n.outputs) if v is not None}
    return lower_tensorrt(model, precision, ranges, target_versions=VERSIONS)


def producers(model: ir.Model) -> dict[str, ir.Node]:
    return {str(v.name): n for n in model.graph for v in n.outputs}


def test_ranges_of_noise_keep_no_node_in_float32(tmp_path: Path) -> None:
    """The largest activation of noise was 2599 where that of an image was 122, so first convolutions stayed in FP32."""
    model = single("g (float[1,3,8,8] x) => (float[1,8,8,8] y) { y = Conv(x, w) }", w=(8, 3, 1, 1))
    rows, noise = tmp_path / "x.npz", open_calibration("random", model)
    np.savez(rows, x=np.full((2, 3, 8, 8), 1e3, np.float32))
    assert float_extremes(model, noise, 1) == {}
    assert all(fp16_eligible(model, float_extremes(model, noise, 1)).values())
    assert float_extremes(model, open_calibration(str(rows), model), 1)["y"][1] > 0


def test_float_layers_beside_q_and_dq_are_in_float16() -> None:
    """A head in FP32 beside INT8 cost 18%."""
    model = single(
        "g (float[1,32,8,8] x) => (float[1,4,8,8] y) { a = Conv(x, w1) s = Sigmoid(a) m = Mul(a, s) y = Conv(m, w2) }",
        w1=(32, 32, 1, 1),
        w2=(4, 32, 1, 1),
    )
    found = lowered(model)
    last = producers(found)["y"]
    head = last if last.op_type == "Conv" else producers(found)[str(last.inputs[0].name)]  # type: ignore[union-attr]
    assert head.op_type == "Conv"
    assert all(v.dtype == ir.DataType.FLOAT16 for v in (*head.inputs, *head.outputs) if v is not None)


def test_the_sigmoid_of_silu_does_not_cut_the_quantized_region() -> None:
    """Excluded from quantization, it cut the graph at every activation: 13 to 18% of the frames a second.

    Here nothing stands between a convolution, its Sigmoid and its Mul, and one pair quantizes their result.
    """
    found = lowered(block())
    made = producers(found)
    for mul in (n for n in found.graph if n.op_type == "Mul"):
        direct = [made[str(v.name)].op_type for v in mul.inputs if v is not None]
        assert sorted(direct) == ["Conv", "Sigmoid"]
    inner = next(n for n in found.graph if n.op_type == "Mul" and not n.outputs[0].is_graph_output())
    assert [n.op_type for n in inner.outputs[0].consumers()] == ["QuantizeLinear"]


def test_the_distribution_focal_loss_of_a_detector_stays_float() -> None:
    """Its convolution from 16 bins to one coordinate has no INT8 form here, whatever the search wants."""
    model = single(
        "g (float[1,16,4,20] x) => (float[1,1,4,20] y) { p = Softmax<axis=1>(x) y = Conv(p, w) }", w=(1, 16, 1, 1)
    )
    verdicts = int8_eligible(model)
    assert not any(verdicts.values())


def test_batch_normalization_is_folded_before_pairs_are_placed() -> None:
    """Unfolded, the first block stayed in FP32."""
    model = canonicalize(
        single(
            """
            g (float[1,32,8,8] x) => (float[1,32,8,8] y) {
              a = Conv(x, w)
              n = BatchNormalization<epsilon=50.0>(a, scale, bias, mean, variance)
              y = Relu(n)
            }""",
            w=(32, 32, 1, 1),
            scale=(32,),
            bias=(32,),
            mean=(32,),
            variance=(32,),
        ),
        verify=False,
    )
    found = lowered(model)
    operators = [n.op_type for n in found.graph]
    assert "BatchNormalization" not in operators
    assert "QuantizeLinear" in operators
