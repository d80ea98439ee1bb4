from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.x86.quantize_x86 import quantize_x86, values_to_quantize
from edgeprune.testing.oracle import feeds_for, parse

TEXT = """
g (float[N, {inputs}, {side}, {side}] x) =>
  (float[N, {outputs}, {side}, {side}] y, float[N, {outputs}, {side}, {side}] z)
{{
  y = Conv<pads=[1, 1, 1, 1]>({data}, w, b)
  z = Conv<pads=[1, 1, 1, 1]>({data}, w2, b2)
}}
"""


def model_of(inputs: int = 3, outputs: int = 16, side: int = 24, head: str = "") -> ir.Model:
    text = TEXT.format(inputs=inputs, outputs=outputs, side=side, data="h" if head else "x")
    shape = (outputs, inputs, 3, 3)
    return parse(text.replace("{\n", "{\n  " + head), w=shape, b=(outputs,), w2=shape, b2=(outputs,))


def quantized(model: ir.Model, nodes: set[str]) -> ir.Model:
    ranges = dict.fromkeys(values_to_quantize(model, nodes), (-8.0, 8.0))
    return quantize_x86(model, nodes, ranges)


def convolutions(model: ir.Model) -> set[str]:
    return {str(n.name) for n in model.graph if n.op_type == "Conv"}


def depths(model: ir.Model) -> list[int]:
    found = []
    for node in model.graph:
        if node.op_type == "Conv":
            weight = node.inputs[1].producer().inputs[0]
            found.append(int(weight.shape[1]))
    return found


@pytest.mark.parametrize("inputs", [1, 3])
def test_an_image_is_padded_once_for_all_its_readers(inputs: int) -> None:
    model = model_of(inputs)
    result = quantized(model, convolutions(model))
    assert depths(result) == [4, 4]
    assert sum(n.op_type == "Pad" for n in result.graph) == 1
    feeds = feeds_for(model, 0)
    for want, got in zip(OnnxRuntime().load(model).run(feeds), OnnxRuntime().load(result).run(feeds), strict=True):
        # Eight bits of the range [-8, 8], over 9 positions and 1 or 3 channels.
        assert float(np.abs(want - got).max()) < 0.05 * float(np.abs(want).max())


def test_padding_is_zero_with_any_zero_point() -> None:
    model = model_of()
    nodes = convolutions(model)
    ranges = dict.fromkeys(values_to_quantize(model, nodes), (-8.0, 8.0)) | {"x": (-1.0, 3.0)}
    feeds = {"x": np.zeros((1, 3, 24, 24), np.float32)}
    results = [OnnxRuntime().load(m).run(feeds)[0] for m in (model, quantize_x86(model, nodes, ranges))]
    assert float(np.abs(results[0] - results[1]).max()) <= 16 / 255 / 2 + 1e-6


@pytest.mark.parametrize(
    ("settings", "depth"),
    [({"inputs": 4}, 4), ({"outputs": 12}, 3), ({"side": 8}, 3), ({"head": "h = MaxPool<kernel_shape=[1, 1]>(x)"}, 3)],
    ids=["fits", "too few outputs", "too few patches", "computed in INT8"],
)
def test_inputs_that_are_not_padded(settings: dict[str, object], depth: int) -> None:
    model = model_of(**settings)  # type: ignore[arg-type]
    assert depths(quantized(model, {str(n.name) for n in model.graph})) == [depth, depth]


def test_behind_a_float_node() -> None:
    model = model_of(head="h = Exp(x)")
    assert depths(quantized(model, convolutions(model))) == [4, 4]
