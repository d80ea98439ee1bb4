"""Small models for the tests of the lowering, with seeded weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from edgeprune.graph import model_io as graphs

RESIDUAL = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 3, 16, 16] image) => (float[1, 32, 8, 8] y)
<float[32, 3, 3, 3] w0, float[32] b0, float[32, 32, 3, 3] w1, float[32] b1, float[32, 32, 3, 3] w2, float[32] b2,
 float[16, 32, 1, 1] w3, float[16] b3, float[32, 48, 1, 1] w4, float[32] b4>
{
  stem = Conv<pads = [1, 1, 1, 1]>(image, w0, b0)
  x = Relu(stem)
  c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
  r1 = Relu(c1)
  c2 = Conv<pads = [1, 1, 1, 1]>(r1, w2, b2)
  sum = Add(c2, x)
  s = Relu(sum)
  narrow = Conv(s, w3, b3)
  pooled = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(narrow)
  spool = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(s)
  cat = Concat<axis = 1>(pooled, spool)
  y = Conv(cat, w4, b4)
}
"""

TRANSFORMER = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 20, 32] x) => (float[1, 20, 32] y)
<float two = {2.0}, float eps = {0.000001}, float[32] gain, float[32] shift,
 float[32, 64] w1, float[64] b1, float[64, 32] w2, float[32] b2>
{
  mean = ReduceMean<axes = [-1]>(x)
  centred = Sub(x, mean)
  square = Pow(centred, two)
  variance = ReduceMean<axes = [-1]>(square)
  padded = Add(variance, eps)
  deviation = Sqrt(padded)
  normal = Div(centred, deviation)
  scaled = Mul(normal, gain)
  n = Add(scaled, shift)
  p1 = MatMul(n, w1)
  h = Add(p1, b1)
  r = Relu(h)
  p2 = MatMul(r, w2)
  o = Add(p2, b2)
  y = Add(o, x)
}
"""


def build(text: str, seed: int = 0) -> ir.Model:
    """A canonical model from text; weights declared without a value are drawn, nodes are named after their outputs."""
    proto = onnx.parser.parse_model(text)
    random = np.random.default_rng(seed)
    stored = {t.name for t in proto.graph.initializer}
    computed = {name for node in proto.graph.node for name in node.output}
    for info in list(proto.graph.value_info):
        if info.name not in stored and info.name not in computed:
            shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
            spread = 0.3 if len(shape) < 2 else 1.4 / np.sqrt(np.prod(shape[1:]))
            array = (random.standard_normal(shape) * spread).astype(np.float32)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
            proto.graph.value_info.remove(info)
    for node in proto.graph.node:
        node.name = node.output[0]
    return graphs.infer_shapes(ir.from_proto(proto))


def run(
    model: ir.Model | onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], names: list[str] | None = None
) -> list[NDArray[Any]]:
    """The model as written: without onnxruntime's own changes to quantized graphs."""
    proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    proto = onnx.ModelProto.FromString(proto.SerializeToString())
    present = {o.name for o in proto.graph.output}
    for name in names or ():
        if name not in present:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[Any]] = session.run(names, dict(feeds))
    return outputs


def feeds_for(model: ir.Model, seed: int = 0) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    return {
        str(v.name): random.standard_normal([d if isinstance(d, int) else 1 for d in v.shape or ()]).astype(np.float32)
        for v in model.graph.inputs
    }


def observed(model: ir.Model, seed: int = 0) -> dict[str, tuple[float, float]]:
    feeds = feeds_for(model, seed)
    names = [str(v.name) for node in model.graph for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    values = {**feeds, **dict(zip(names, run(model, feeds, names), strict=True))}
    return {name: (float(a.min()), float(a.max())) for name, a in values.items()}
