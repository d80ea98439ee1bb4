from __future__ import annotations

import onnx_ir as ir

from edgeprune.passes.openvino.activation_grids import Grid, activation_grids
from edgeprune.passes.placement import quantized_readers
from tests.passes.graphs import RESIDUAL, build


def test_values_that_meet_in_a_concat_have_one_grid() -> None:
    model = build(RESIDUAL)
    ranges = {"s": (0.0, 51.0), "cat": (-5.1, 20.0)}
    grids = activation_grids(model.graph, quantized_readers(model, ["narrow", "y"]), ranges)
    found = {str(value.name): grid for value, grid in grids.items()}
    assert found["s"] == found["cat"]  # s reaches the Concat through a MaxPool
    assert found["s"].dtype == ir.DataType.UINT8
    assert found["s"].zero == 23  # of 255 steps from -5.1 to 51


def test_a_range_above_zero_needs_no_sign() -> None:
    model = build(RESIDUAL)
    (grid,) = activation_grids(model.graph, quantized_readers(model, ["c1"]), {"x": (0.0, 255.0)}).values()
    assert grid == Grid(1.0, 0, ir.DataType.UINT8)
