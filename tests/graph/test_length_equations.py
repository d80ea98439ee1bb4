"""What constants and targets of a model need of the lengths of its inputs."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.dependency import analyse
from edgeprune.graph import fix_inputs, forced_lengths, infer_shapes
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.prune import prune_channels
from tests.passes.models import parse, random, run


def reshaped(before: str, *target: int) -> dict[str, int]:
    model = parse(f"g (float[{before}] x) => (float y) {{ y = Reshape(x, t) }}", t=np.asarray(target))
    return forced_lengths(infer_shapes(model))


@pytest.mark.parametrize(
    ("before", "target", "found"),
    [
        ("n, 6, 8", (1, 6, 2, 4), {"n": 1}),
        ("n, 6, 8", (12, 8), {"n": 2}),
        ("n, 6, 8", (-1, 8), {}),
        ("n, 6, 8", (0, 6, 2, 4), {}),
        ("n, m, 8", (1, 6, 8), {}),  # 1 and 6, or 2 and 3
        ("n, 6, 8", (5, 7), {}),  # it runs at no length
        ("n, 6, n", (6, 25), {}),
    ],
)
def test_forced_lengths(before: str, target: tuple[int, ...], found: dict[str, int]) -> None:
    assert reshaped(before, *target) == found


def test_lengths_that_are_computed() -> None:
    """The batch is part of the tokens, and then of the channels that a Split divides."""
    text = "g (float[n, 4, 6] x) => (float y, float z) { t = Reshape(x, to) y, z = Split<axis = 1>(t, parts) }"
    weights = {"to": np.array([8, -1]), "parts": np.array([2, 4])}
    assert forced_lengths(infer_shapes(parse(text, **weights))) == {"n": 2}


def test_fixed_inputs() -> None:
    model = parse("g (float[n, 6] x, float[m, n] z) => (float y) { y = MatMul(z, x) }")
    before = fix_inputs(model, {"n": 2})
    assert [str(v.shape) for v in model.graph.inputs] == ["[2,6]", "[m,2]"]
    assert {name: str(shape) for name, shape in before.items()} == {"x": "[n,6]", "z": "[m,n]"}


ATTENTION = """g (float[BATCH, 5, 8] x) => (float[BATCH, 5, 8] y) {
    p = MatMul(x, w)
    r = Reshape(p, to)
    t = Transpose<perm = [2, 0, 3, 1, 4]>(r)
    q, k, v = Split<axis = 0>(t, ones)
    q1 = Squeeze(q, zero)
    k1 = Squeeze(k, zero)
    v1 = Squeeze(v, zero)
    kt = Transpose<perm = [0, 1, 3, 2]>(k1)
    s = MatMul(q1, kt)
    a = Softmax<axis = -1>(s)
    o = MatMul(a, v1)
    ot = Transpose<perm = [0, 2, 1, 3]>(o)
    f = Reshape(ot, back)
    y = MatMul(f, u)
}"""


def test_attention_whose_batch_is_part_of_its_targets() -> None:
    """The batch is declared open and runs at 1 alone: the groups are those of the fixed one, the interface stays."""
    weights = {
        **{"w": random(8, 24), "u": random(8, 8), "to": np.array([1, 5, 3, 2, 4]), "back": np.array([1, 5, 8])},
        **{"ones": np.array([1, 1, 1]), "zero": np.array([0])},
    }
    model = canonicalize(parse(ATTENTION.replace("BATCH", "n"), **weights))
    fixed = analyse(canonicalize(parse(ATTENTION.replace("BATCH", "1"), **weights)))
    analysis = analyse(model)
    assert sorted((g.kind, g.size) for g in analysis.groups) == sorted((g.kind, g.size) for g in fixed.groups)
    assert {g.kind for g in analysis.groups} == {"head", "dim"}
    assert str(model.graph.inputs[0].shape) == "[n,5,8]"
    pruned = prune_channels(model, analysis, {g.id: np.arange(g.size // 2) for g in analysis.groups})
    assert str(pruned.graph.inputs[0].shape) == "[n,5,8]"
    assert run(pruned, x=random(1, 5, 8))[0].shape == (1, 5, 8)
