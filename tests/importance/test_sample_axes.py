"""Rankings do not depend on which axis counts the samples, nor on how many samples are run together."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.calibration import Calibration
from edgeprune.dependency import Ranking
from edgeprune.dependency.solve import analyse
from edgeprune.importance import rank
from edgeprune.importance.context import Context
from edgeprune.importance.gates import with_gates
from tests.small_models import build, calibration, normal

STEPS = (8, 5)
"""As many steps as samples in a batch of gradients, and another number."""


def network(steps: int, order: str) -> ir.Model:
    """Two layers on sequences (n, steps, 6): as they are, with the time first, or with time and samples folded."""
    body = {
        "samples first": "h = MatMul(x, w1) r = Relu(h) y = MatMul(r, w2)",
        "time first": """t = Transpose<perm=[1,0,2]>(x) h = MatMul(t, w1) r = Relu(h)
            m = MatMul(r, w2) y = Transpose<perm=[1,0,2]>(m)""",
        "folded": "t = Reshape(x, rows) h = MatMul(t, w1) r = Relu(h) m = MatMul(r, w2) y = Reshape(m, back)",
    }
    return build(
        f"g (float[n,{steps},6] x) => (float[n,{steps},4] y) {{ {body[order]} }}",
        integers={"rows": [-1, 6], "back": [-1, steps, 4]} if order == "folded" else {},
        w1=normal(6, 7, seed=1),
        w2=normal(7, 4, seed=2),
    )


def sequences(count: int, steps: int) -> np.ndarray:
    x = np.random.default_rng(steps).standard_normal((count, steps, 6))
    return (x * np.linspace(0.2, 3, count)[:, None, None]).astype(np.float32)


def one_by_one(data: Calibration) -> Calibration:
    return replace(data, axes=replace(data.axes, joins=False))


def only(found: Mapping[str, Ranking]) -> Ranking:
    (ranking,) = found.values()
    return ranking


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("order", ["time first", "folded"])
@pytest.mark.parametrize("criterion", ["obs", "wanda", "flap", "vbp", "output", "taylor", "fisher"])
def test_rankings_are_those_of_samples_one_by_one(criterion: str, order: str, steps: int) -> None:
    data = calibration(x=sequences(96, steps))
    expected = only(rank(criterion, m := network(steps, "samples first"), analyse(m), one_by_one(data)))
    found = only(rank(criterion, m := network(steps, order), analyse(m), data))
    # Labels of gradients are drawn anew; everything else is the same sum in another order.
    drawn = {"taylor": 0.06, "fisher": 0.06}.get(criterion, 1e-4)
    losses = [np.empty(7), np.empty(7)]
    for loss, ranking in zip(losses, (expected, found), strict=True):
        loss[ranking.order] = np.diff(ranking.loss)
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=drawn)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(
    ("order", "shape"), [("samples first", (8, 1, 7)), ("time first", (1, 8, 7)), ("folded", None)]
)
def test_a_gate_lies_along_the_samples_wherever_they_are(order: str, shape: tuple | None, steps: int) -> None:
    model = network(steps, order)
    context = Context(model, analyse(model).groups, calibration(x=sequences(8, steps)))
    gated = with_gates(context, context.groups, {"x": (8, steps, 6)}, 8)
    assert gated.separate == (shape is not None)
    assert list(gated.shapes.values()) == [shape or (1, 7)]


@pytest.mark.parametrize("perm", ["0,2,1,3", "2,0,1,3"])
def test_attention_may_have_heads_before_the_samples(perm: str) -> None:
    """The energy of query/key dimensions; 21 samples do not fill the last batch of 16."""
    axes = [int(axis) for axis in perm.split(",")]
    swapped = ",".join(map(str, [axes[0], axes[1], axes[3], axes[2]]))
    model = build(
        f"""g (float[n, 5, 8] x) => (float[a, b, c, d] y) {{
            q0 = MatMul(x, wq) q1 = Reshape(q0, split) q = Transpose<perm=[{perm}]>(q1)
            k0 = MatMul(x, wk) k1 = Reshape(k0, split) k = Transpose<perm=[{swapped}]>(k1)
            s = MatMul(q, k)
            y = Softmax(s)
        }}""",
        wq=(wq := normal(8, 8, seed=3)),
        wk=(wk := normal(8, 8, seed=4)),
        integers={"split": [0, 0, 2, 4]},
    )
    x = np.random.default_rng(0).standard_normal((21, 5, 8)).astype(np.float32)
    analysis = analyse(model)
    (group,) = [g for g in analysis.groups if g.size == 4]
    ranking = rank("obs", model, analysis, calibration(x=x))[group.id]
    q, k = ((x @ w).reshape(21, 5, 2, 4).transpose(axes) for w in (wq, wk))
    energy = ((q**2).mean(axis=-2) * (k**2).mean(axis=-2)).reshape(-1, 4).sum(axis=0)
    loss = np.empty(4)
    loss[ranking.order] = np.diff(ranking.loss)
    np.testing.assert_allclose(loss, energy / energy.sum(), rtol=1e-4)
