"""The program that runs an engine on the device; its runs by a stand-in are in test_trtexec_device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune.backends.engine_runner import numpy_type, run


def engine(kind: str) -> Any:
    return SimpleNamespace(get_tensor_dtype=lambda name: f"DataType.{kind}")


def test_values_that_do_not_fit_the_type_of_the_engine_are_refused():
    """TensorRT before 10 stores INT64 inputs in 32 bits; a cast would wrap around without a word."""
    feed = {"ids": np.array([1, 2**40])}
    with pytest.raises(ValueError, match="input 'ids' has values that its type in the engine, int32, cannot hold"):
        run(engine("INT32"), None, None, feed, [])  # type: ignore[arg-type]


def test_a_type_that_numpy_lacks_is_named():
    assert numpy_type(engine("HALF"), "x") == "float16"
    with pytest.raises(ValueError, match="tensor 'x' has type BF16"):
        numpy_type(engine("BF16"), "x")
