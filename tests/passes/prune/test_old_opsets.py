"""A detector-like CNN as exporters of opsets 7 to 12 write it: the groups are those of opset 13, and cutting holds."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.dependency import analyse
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.prune import prune_channels, verify_cut
from edgeprune.testing import random_cut
from tests.passes.models import parse, random

TEXT = """g (float[n, 3, 16, 16] x) => (float[n, 5] y, float[n, 4, 8, 8] map) {
    PAD
    stem = Conv<kernel_shape = [3, 3], strides = [2, 2]>(padded, w0)
    n0 = BatchNormalization<epsilon = 0.001>(stem, g0, b0, m0, v0)
    CLIP
    wide = Conv<group = 8, kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(c0, wd)
    d = LeakyRelu<alpha = 0.1>(wide)
    small = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d)
    low = Conv<kernel_shape = [1, 1]>(small, w1)
    UPSAMPLE
    both = Concat<axis = 1>(up, d)
    SPLIT
    gate = Sigmoid(p)
    gated = Mul(gate, q)
    map = Conv<kernel_shape = [1, 1]>(gated, w2)
    pooled = GlobalAveragePool(gated)
    SQUEEZE
    DROPOUT
    logits = Gemm<transB = 1>(kept, fc, fb)
    y = Softmax<axis = 1>(logits)
}"""
FORMS = {
    "PAD": {
        7: "padded = Pad<pads = [0, 0, 1, 1, 0, 0, 1, 1]>(x)",
        11: "padded = Pad(x, pads)",
    },
    "CLIP": {7: "c0 = Clip<min = 0.0, max = 6.0>(n0)", 11: "c0 = Clip(n0, zero, six)"},
    "UPSAMPLE": {
        7: 'up = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(low)',
        9: 'up = Upsample<mode = "nearest">(low, scales)',
        10: 'up = Resize<mode = "nearest">(low, scales)',
        11: 'up = Resize<coordinate_transformation_mode="asymmetric",nearest_mode="floor">(low,roi,scales)',
    },
    "SPLIT": {7: "p, q = Split<axis = 1, split = [9, 9]>(both)", 13: "p, q = Split<axis = 1>(both, parts)"},
    "SQUEEZE": {7: "row = Squeeze<axes = [2, 3]>(pooled)", 13: "row = Squeeze(pooled, last)"},
    "DROPOUT": {7: "kept = Dropout<ratio = 0.2>(row)", 12: "kept = Dropout(row)"},
}
WEIGHTS = {
    **{"w0": random(8, 3, 3, 3), "g0": abs(random(8)), "b0": random(8), "m0": random(8), "v0": abs(random(8)) + 0.5},
    **{"wd": random(8, 1, 3, 3), "w1": random(10, 8, 1, 1), "w2": random(4, 9, 1, 1), "fc": random(5, 9)},
    **{"fb": random(5), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "zero": np.float32(0), "six": np.float32(6)},
    **{"scales": np.float32([1, 1, 2, 2]), "roi": np.float32([]), "last": np.array([2, 3]), "parts": np.array([9, 9])},
}


def text_of(opset: int) -> str:
    text = TEXT
    for word, forms in FORMS.items():
        text = text.replace(word, forms[max(version for version in forms if version <= opset)])
    return text


def groups(opset: int) -> list[tuple[str, str, int]]:
    text = text_of(opset)
    model = parse(text, opset=opset, **{name: array for name, array in WEIGHTS.items() if name in text})
    dense = canonicalize(model)  # compares both in onnxruntime
    analysis = analyse(dense)
    cut = random_cut(analysis, np.random.default_rng(0))
    assert verify_cut(dense, prune_channels(dense, analysis, cut), analysis, cut)
    return sorted((group.id, group.kind, group.size) for group in analysis.groups)


@pytest.mark.parametrize("opset", range(7, 13))
def test_the_groups_are_those_of_opset_13(opset: int) -> None:
    found = groups(opset)
    assert sum(size for _, _, size in found) == 9  # the two halves of 10 + 8 channels are multiplied
    assert found == groups(13)
