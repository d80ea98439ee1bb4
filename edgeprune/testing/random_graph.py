"""Random graphs of the operators that have a rule, for property tests.

Every step takes an earlier tensor and adds a small idiom of real exports: a grouped convolution, a channel shuffle, a
squeeze-and-excite, an attention block. The result is a valid model with one or two outputs.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from edgeprune.testing.graph_builder import Builder
from edgeprune.testing.image_idioms import IMAGE_STEPS
from edgeprune.testing.oracle import canonical
from edgeprune.testing.token_idioms import TOKEN_STEPS


def random_model(seed: int, steps: int = 10, *, tokens: bool = True, open_axes: Collection[int] = ()) -> ir.Model:
    """A random canonical model: random idioms over an image and, in most models, over tokens made from it.

    Args:
        seed: of the idioms and the weights.
        steps: number of idioms.
        tokens: whether it may have tokens; their number is fixed, so height and width can be open only without them.
        open_axes: axes of the input that are open; the model is the same otherwise.
    """
    b = Builder(np.random.default_rng(seed), open_axes)
    x = b.input((2, 3, 4, 4))
    pool = [b.conv(x, b.choice([8, 12, 16]), b.choice([1, 3]))]
    sequences: list[str] = []
    for _ in range(steps):
        if sequences and b.rng.random() < 0.5:
            sequences.append(b.choice(TOKEN_STEPS)(b, b.choice(sequences[-3:])))
            continue
        y = b.choice(IMAGE_STEPS)(b, b.choice(pool[-3:]))
        pool.append(y)
        if b.rng.random() < 0.15 and tokens:
            n, c, h, w = b.shape[y]
            sequences.append(b.transpose(b.reshape(y, n, c, h * w), 0, 2, 1))
    outputs = [b.linear(b.op("ReduceMean", pool[-1], b.constant([2, 3]), shape=b.shape[pool[-1]][:2], keepdims=0), 5)]
    if sequences:
        outputs.append(b.linear(sequences[-1], 3))
    return canonical(b.model(outputs))
