"""Networks with layers that are nearly of low rank, and samples for them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tests.passes.models import parse, random

TEXT = """
net (float[1,256,{d}] x) => (float[1,256,{d}] y) {{
    m = MatMul(x, w1)
    s = Add(m, b1)
    h = Relu(s)
    k = MatMul(h, w2)
    t = Add(k, b2)
    y = Add(t, x)
}}"""


def nearly_low(rows: int, columns: int, rank: int, seed: int) -> NDArray[np.float32]:
    """A matrix of low rank, and a little noise."""
    product = random(rows, rank, seed=seed) @ random(rank, columns, seed=seed + 1) / np.sqrt(rows * rank)
    return np.asarray(product + 0.01 * random(rows, columns, seed=seed + 2) / np.sqrt(rows), np.float32)


def mlp(width: int = 256, hidden: int = 1024, rank: int = 24) -> ir.Model:
    """An MLP whose two matrices are nearly of this rank, around a residual connection."""
    weights = {"w1": nearly_low(width, hidden, rank, 0), "w2": nearly_low(hidden, width, rank, 5)}
    model = parse(TEXT.format(d=width), **weights, b1=random(hidden, seed=9), b2=random(width, seed=10))
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    return model


def one_layer(width: int = 512, outputs: int = 2048, rank: int = 24) -> ir.Model:
    """A layer that is nearly of this rank: no channel of it can be cut."""
    ends = f"(float[1,256,{width}] x) => (float[1,256,{outputs}] y)"
    text = f"net {ends} {{ m = MatMul(x, w)\n s = Add(m, b)\n y = Relu(s) }}"
    model = parse(text, w=nearly_low(width, outputs, rank, 0), b=random(outputs, seed=9))
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    return model


def samples(width: int = 256, count: int = 12) -> NDArray[np.float32]:
    return random(count, 256, width, seed=11)
