"""Sizes at which a model with open axes runs."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.errors import ModelError
from edgeprune.passes.verify import running_sizes, verify_equal
from tests.passes.models import parse, random


def test_a_model_of_fixed_sizes_runs_at_these() -> None:
    model = parse("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }")
    assert running_sizes(model, batches=(1, 2)) == [{"x": (2, 3)}]


def test_two_results_differ_in_every_open_axis() -> None:
    model = parse("g (float[n,3,h,w] x) => (float[a,b,c,d] y) { y = Relu(x) }")
    first, second = running_sizes(model, batches=(1, 2))
    assert first["x"][0] == 1
    assert second["x"][0] == 2
    assert all(a != b for a, b in zip(first["x"][2:], second["x"][2:], strict=True))


def test_equal_symbols_get_equal_sizes_and_given_ones_stay() -> None:
    model = parse("g (float[n,h] x, float[n,h] z) => (float[a,b] y) { y = Add(x, z) }")
    (shapes,) = running_sizes(model)
    assert shapes["x"] == shapes["z"]
    assert running_sizes(model, {"x": (1, 5)}) == [{"x": (1, 5), "z": (1, 5)}]


def test_a_length_is_read_off_the_table_of_positions() -> None:
    model = parse("g (float[n,t,4] x) => (float[a,b,4] y) { y = Add(x, table) }", table=random(1, 77, 4))
    assert running_sizes(model) == [{"x": (1, 77, 4)}]


def test_a_skip_connection_needs_multiples_of_the_stride() -> None:
    text = """g (float[1,2,h,w] x) => (float[1,4,h,w] y) {
        a = MaxPool<kernel_shape = [16, 16], strides = [16, 16]>(x)
        u = Resize(a, , scales)
        y = Concat<axis = 1>(u, x)
    }"""
    (shapes,) = running_sizes(parse(text, scales=np.array([1, 1, 16, 16], np.float32)))
    assert shapes["x"][2] % 16 == shapes["x"][3] % 16 == 0


def test_the_reason_is_onnxruntimes() -> None:
    model = parse("g (float[n,h] x) => (float[a,b] y) { y = MatMul(x, w) }", w=random(5003, 2))
    with pytest.raises(ModelError, match=r"at none of the sizes that were tried; at x=1x64: .*dimension"):
        running_sizes(model)


def test_a_size_that_a_rewrite_wrote_down_is_found() -> None:
    text = "g (float[2,h,w] x) => (float[2,b] y) { y = Reshape(x, target) }"
    open_, baked = (parse(text, target=np.array([2, n])) for n in (-1, 64 * 64))
    with pytest.raises(ModelError, match="it cannot be run"):
        verify_equal(open_, baked)
