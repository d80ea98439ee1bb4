"""Sizes that a user fixes free what only they make provable; the result stays open where that is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune.dependency import OpenedModel, inspect_model, open_model
from edgeprune.graph import open_axes, save
from edgeprune.passes.prune import prune_channels, try_cut, verify_cut
from edgeprune.support import Progress
from tests.passes.models import parse, random

FLATTENED = """g (float[N, 3, H, W] x) => (float[N, 5] y) {
    a = Conv<strides = [2, 2]>(x, w)
    b = Relu(a)
    f = Flatten(b)
    y = MatMul(f, o)
}"""
MIXED = """g (float[N, 3, H, W] x) => (float[N, M, 5] y) {
    a = Conv<strides = [2, 2]>(x, w)
    f = Reshape(a, rows)
    y = MatMul(f, o)
}"""
CASES = {
    "flattened": (
        parse(FLATTENED, w=random(16, 3, 2, 2), o=random(16 * 4 * 4, 5)),
        {"x": (1, 3, 8, 8)},
    ),
}


def opened(name: str, folder: Path, *, given: bool) -> OpenedModel:
    model, shapes = CASES[name]
    save(model, folder / "m.onnx")
    return open_model(folder / "m.onnx", shapes if given else {}, Progress(), trial=try_cut)


def cuts_first_layer(found: OpenedModel) -> bool:
    return any(m.value == "w" and m.axis == 0 for g in found.analysis.groups for m in g.members)


@pytest.mark.parametrize("name", CASES)
def test_given_sizes_free_channels(name: str, tmp_path: Path) -> None:
    found = opened(name, tmp_path, given=True)
    cut = {g.id: np.arange(g.size // 2) for g in found.analysis.groups}
    assert cuts_first_layer(found)
    assert not cuts_first_layer(opened(name, tmp_path, given=False))
    pruned = prune_channels(found.dense, found.analysis, cut)
    assert verify_cut(found.dense, pruned, found.analysis, cut, sizes=found.sizes.shapes)
    assert open_axes(pruned), "the user's axes stay open"
    shown = inspect_model(tmp_path / "m.onnx", shapes=CASES[name][1], trial=try_cut)
    assert [g.id for g in shown.groups] == [g.id for g in found.analysis.groups]


def test_axes_are_fixed_where_other_sizes_would_compute_something_else(tmp_path: Path) -> None:
    """At 8x8 a row is all channels of a sample; at other sizes it is some of them."""
    save(parse(MIXED, w=random(16, 3, 2, 2), o=random(256, 5), rows=np.array([0, -1, 256])), tmp_path / "m.onnx")
    found = open_model(tmp_path / "m.onnx", {"x": (2, 3, 8, 8)}, Progress(), trial=try_cut)
    assert cuts_first_layer(found)
    assert open_axes(found.dense) == [("x", 0)]
    assert any("takes batches of any size, and else only x=2x3x8x8" in s for s in found.sentences())
    asked = open_model(tmp_path / "m.onnx", {}, Progress(), trial=try_cut, data=lambda _: {"x": (2, 3, 8, 8)})
    assert not cuts_first_layer(asked)
    assert len(open_axes(asked.dense)) == 3
    assert any("give --shape x=2x3x8x8" in s for s in asked.sentences())
