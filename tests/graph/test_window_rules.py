"""Lengths behind convolutions and poolings: evaluated at a size, they are the shapes that onnxruntime gives."""

from __future__ import annotations

import pytest

from tests.graph.test_length_rules import check
from tests.passes.models import random

WINDOWS = (
    "strides = [2, 3], pads = [1, 0, 2, 1]",
    "strides = [3, 2], dilations = [2, 1]",
    'auto_pad = "SAME_UPPER", strides = [2, 3]',
    'auto_pad = "VALID", strides = [2, 2]',
)


@pytest.mark.parametrize("window", WINDOWS)
def test_convolutions(window: str) -> None:
    check(f"y = Conv<{window}>(x, k)", k=random(6, 4, 3, 3))


@pytest.mark.parametrize("window", [*WINDOWS, "strides = [2, 3], ceil_mode = 1"])
def test_poolings(window: str) -> None:
    check(f"y = MaxPool<kernel_shape = [3, 3], {window}>(x)")


@pytest.mark.parametrize(
    "window", ["strides = [2, 3], pads = [1, 0, 2, 1]", "strides = [2, 2], output_padding = [1, 0]"]
)
def test_transposed_convolutions(window: str) -> None:
    check(f"y = ConvTranspose<group = 2, {window}>(x, k)", k=random(4, 5, 3, 3))
