"""A small residual network in a file, for what compiles files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 3, 48, 48] x) => (float[n, 10] y) {
  c1 = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w1, b1)
  a1 = Relu(c1)
  c2 = Conv<pads=[1, 1, 1, 1]>(a1, w2, b2)
  a2 = Relu(c2)
  c3 = Conv<pads=[1, 1, 1, 1]>(a2, w3, b3)
  s3 = Add(c3, a1)
  a3 = Relu(s3)
  p = GlobalAveragePool(a3)
  f = Flatten(p)
  y = Gemm<transB=1>(f, w4, b4)
}
"""
WEIGHTS = {
    "w1": (48, 3, 3, 3),
    "b1": (48,),
    "w2": (96, 48, 3, 3),
    "b2": (96,),
    "w3": (48, 96, 3, 3),
    "b3": (48,),
    "w4": (10, 48),
    "b4": (10,),
}


def save(file: Path, rng: np.random.Generator, *, pixels: int = 48, widths: Mapping[int, int] | None = None) -> None:
    """Write it with random weights; ``widths`` are other ones, by those above."""
    model = onnx.parser.parse_model(NETWORK.strip().replace("48, 48]", f"{pixels}, {pixels}]"))
    for name, written in WEIGHTS.items():
        shape = tuple((widths or {}).get(d, d) for d in written)
        fan_in = max(int(np.prod(shape[1:])), 1)
        array = (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, file)
