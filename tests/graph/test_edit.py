"""New initializers hold no more memory than their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune.graph.edit import add_initializer


def stored(array: np.ndarray) -> np.ndarray:
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 17})
    value = add_initializer(graph, "w", array)
    assert value.const_value is not None
    return value.const_value.numpy()


def test_a_part_of_a_larger_array_is_copied_and_a_whole_one_is_not(tmp_path: Path) -> None:
    """A projection of queries, keys and values is split into three parts: each would keep the whole weight."""
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    for part in (whole[:, :2], np.frombuffer(whole.tobytes(), np.float32)[:12]):
        found = stored(part)
        np.testing.assert_array_equal(found, part)
        assert found.base is None
    assert np.shares_memory(stored(whole), whole)
    assert np.shares_memory(stored(whole.T), whole)
    whole.tofile(tmp_path / "w.data")
    mapped = np.memmap(tmp_path / "w.data", np.float32, "r", shape=(4, 6))
    assert np.shares_memory(stored(mapped[:2]), mapped)
