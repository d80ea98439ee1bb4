"""`edgeprune prune` for a target whose attention is one kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune import graph
from edgeprune.compiler import prune_model
from edgeprune.costmodel import kernels_of
from tests.latency.attentions import attention


def head_sizes(folder: Path) -> tuple[int, int]:
    """Sizes of a head of queries and keys, and of values, in a pruned attention."""
    (found,) = [k for k in kernels_of(graph.load(folder / "model.onnx")) if k.kind == "attention"]
    return found.cin // found.groups, found.cout // found.groups


@pytest.mark.parametrize(("target", "sizes"), [("orin", (48, 48)), ("orin-nano-8", (48, 48)), (None, (44, 44))])
def test_heads_are_cut_to_sizes_that_stay_fused(target: str | None, sizes: tuple[int, int], tmp_path: Path) -> None:
    graph.save(attention(heads=2, query_key=64, value=64), tmp_path / "net.onnx")
    prune_model(tmp_path / "net.onnx", 0.3, compensate=False, target=target, out=tmp_path / "out")
    assert head_sizes(tmp_path / "out") == sizes
