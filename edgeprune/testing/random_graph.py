"""Random graphs of the operators that have a rule, for property tests.

Every step takes an earlier tensor and adds a small idiom of real exports: a grouped convolution, a channel shuffle, a
squeeze-and-excite, an attention block. The result is a valid model with one or two outputs.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.testing.graph_builder import Builder
from edgeprune.testing.image_idioms import IMAGE_STEPS
from edgeprune.testing.oracle import canonical
from edgeprune.testing.token_idioms import TOKEN_STEPS


def random_model(seed: int, steps: int = 10) -> ir.Model:
    """A random canonical model: random idioms over an image and, in most models, over tokens made from it."""
    b = Builder(np.random.default_rng(seed))
    x = b.input((2, 3, 4, 4))
    pool = [b.conv(x, b.choice([8, 12, 16]), b.choice([1, 3]))]
    tokens: list[str] = []
    for _ in range(steps):
        if tokens and b.rng.random() < 0.5:
            tokens.append(b.choice(TOKEN_STEPS)(b, b.choice(tokens[-3:])))
            continue
        y = b.choice(IMAGE_STEPS)(b, b.choice(pool[-3:]))
        pool.append(y)
        if b.rng.random() < 0.15:
            n, c, h, w = b.shape[y]
            tokens.append(b.transpose(b.reshape(y, n, c, h * w), 0, 2, 1))
    outputs = [b.linear(b.op("ReduceMean", pool[-1], b.constant([2, 3]), shape=b.shape[pool[-1]][:2], keepdims=0), 5)]
    if tokens:
        outputs.append(b.linear(tokens[-1], 3))
    return canonical(b.model(outputs))
