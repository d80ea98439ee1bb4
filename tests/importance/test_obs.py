import itertools

import numpy as np
import pytest

from edgeprune.dependency.groups import Group, Member
from edgeprune.dependency.solve import analyse
from edgeprune.errors import PassError
from edgeprune.importance import obs as obs_module
from edgeprune.importance import rank
from edgeprune.importance.context import Context
from edgeprune.importance.obs import DAMPING
from edgeprune.importance.surgeon import Surgeon
from edgeprune.importance.sweep import in_order, sweep
from tests.small_models import build, calibration, normal, two_convolutions


def problem(units: int = 6, each: int = 3, outputs: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((500, units * each + 2)) @ rng.standard_normal((units * each + 2, units * each + 2))
    unit = np.concatenate([np.repeat(np.arange(units), each), [-1, -1]]).astype(np.int32)
    return np.cov(x.T, bias=True), rng.standard_normal((outputs, units * each + 2)), unit


def least_squares_loss(c: np.ndarray, w: np.ndarray, unit: np.ndarray, removed: list[int]) -> float:
    c = c + DAMPING * np.trace(c) / len(c) * np.eye(len(c))
    gone = np.isin(unit, removed)
    schur = c[np.ix_(gone, gone)] - c[np.ix_(gone, ~gone)] @ np.linalg.solve(
        c[np.ix_(~gone, ~gone)], c[np.ix_(~gone, gone)]
    )
    return float(np.trace(w[:, gone] @ schur @ w[:, gone].T))


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_losses_are_those_of_refitting(batch: int) -> None:
    first, second = problem(seed=1), problem(outputs=7, seed=2)
    surgeons = [Surgeon.of(*first, scale, DAMPING) for first, scale in ((first, 1.0), (second, 0.5))]
    ranking = sweep(surgeons, 6, batch)
    for count in range(1, 7):
        removed = ranking.order[:count].tolist()
        expected = least_squares_loss(*first, removed) + 0.5 * least_squares_loss(*second, removed)
        np.testing.assert_allclose(ranking.loss[count], expected, rtol=1e-6)


def test_greedy_with_swaps_is_near_the_best_choice() -> None:
    ratios, greedy = [], []
    for seed in range(20):
        c, w, unit = problem(seed=seed)
        ranking = sweep([Surgeon.of(c, w, unit, 1.0, DAMPING)], 6, 3)
        best = min(least_squares_loss(c, w, unit, list(s)) for s in itertools.combinations(range(6), 3))
        ratios.append(ranking.loss[3] / best)
        greedy.append(sweep([Surgeon.of(c, w, unit, 1.0, DAMPING)], 6, 1).loss[3] / best)
    assert min(ratios) >= 1 - 1e-9
    assert np.mean(ratios) < 1.05 < np.mean(greedy)


def test_units_of_different_size_and_units_that_a_layer_does_not_read() -> None:
    c, w, _ = problem()
    unit = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, -1, -1, -1, -1, -1, -1, -1], np.int32)
    ranking = sweep([Surgeon.of(c, w, unit, 1.0, DAMPING)], 6, 2)
    assert sorted(ranking.order[:2].tolist()) == [4, 5]
    assert ranking.loss[2] == 0
    np.testing.assert_allclose(ranking.loss[6], least_squares_loss(c, w, unit, [0, 1, 2, 3]), rtol=1e-6)


def test_variances_alone_give_independent_losses() -> None:
    c, w, unit = problem()
    variances = np.diag(c).copy()
    ranking = sweep([Surgeon.of(variances, w, unit, 2.0, DAMPING)], 6, 2)
    scores = np.bincount(unit[:18], weights=(w**2).sum(0)[:18] * variances[:18])
    assert ranking.order.tolist() == np.argsort(scores).tolist()
    np.testing.assert_allclose(ranking.loss[1:], 2 * np.cumsum(np.sort(scores)), rtol=1e-6)


def test_dependent_channels_cost_nothing() -> None:
    first = normal(8, 3, 3, 3)
    first[4:] = 2 * first[:4]
    model = two_convolutions(first, normal(5, 8, 3, 3))
    x = np.random.default_rng(0).standard_normal((64, 3, 8, 8)).astype(np.float32)
    (ranking,) = rank("obs", model, analyse(model), calibration(x=x), step=2).values()
    assert sorted(ranking.order[:4] % 4) == [0, 1, 2, 3]
    assert ranking.loss[4] < 0.01 < 0.05 < ranking.loss[5]
    assert ranking.loss[8] == pytest.approx(1.0, abs=0.02)


def test_losses_add_up_over_the_layers_that_read_a_group() -> None:
    model = build(
        """g (float[n, 6] x) => (float[n, 3] y, float[n, 4] z) {
            a = Gemm(x, w)
            h = Relu(a)
            y = Gemm(h, v)
            z = MatMul(h, u)
        }""",
        w=normal(6, 6),
        v=normal(6, 3),
        u=100 * normal(6, 4),
    )
    x = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32)
    (ranking,) = rank("obs", model, analyse(model), calibration(x=x)).values()
    assert ranking.loss[-1] == pytest.approx(2.0, abs=0.04)


def test_groups_are_ranked_in_waves_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(
        """g (float[n, 4] x) => (float[n, 4] y) {
            a = Gemm(x, w1)
            h = Relu(a)
            b = Gemm(h, w2)
            i = Relu(b)
            y = Gemm(i, w3)
        }""",
        w1=normal(4, 8),
        w2=normal(8, 8),
        w3=normal(8, 4),
    )
    x = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    analysis = analyse(model)
    together = rank("obs", model, analysis, calibration(x=x))
    monkeypatch.setattr(obs_module, "GRAM_BYTES", 1)
    apart = rank("obs", model, analysis, calibration(x=x))
    assert together.keys() == apart.keys()
    for name in together:
        np.testing.assert_allclose(together[name].loss, apart[name].loss, rtol=1e-9)


def test_a_group_that_nothing_linear_reads_is_ranked_by_its_weights() -> None:
    model = build("g (float[n, 3] x) => (float[n, 4] y) { [n] y = Gemm(x, w) }", w=normal(3, 4) * [1, 3, 2, 4])
    member = Member("w", 1, "producer", np.arange(4, dtype=np.int32))
    group = Group("w:1", "channel", 4, (member,))
    x = calibration(x=np.ones((4, 3), np.float32))
    ranking = obs_module.obs(Context(model, (group,), x))["w:1"]
    assert sorted(ranking.order.tolist()) == [0, 1, 2, 3]
    assert ranking.loss[-1] == pytest.approx(1.0)


def test_losses_of_a_given_order() -> None:
    c, w, unit = problem()
    order = np.array([3, 0, 5, 1, 4, 2])
    ranking = in_order([Surgeon.of(c, w, unit, 2.0, DAMPING)], order)
    assert ranking.order.tolist() == order.tolist()
    expected = [2 * least_squares_loss(c, w, unit, order[:k].tolist()) for k in range(7)]
    np.testing.assert_allclose(ranking.loss, expected, rtol=1e-8, atol=1e-10)


def heads():
    """Four heads, each of two dimensions; of the values of the last two little reaches the output."""
    reach = np.repeat([1.0, 1.0, 1e-3, 1e-2], 2).astype(np.float32)
    text = """
    g (float[n,5,8] x) => (float[n,5,3] y) {
      q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
      qr = Reshape(q, split) kr = Reshape(k, split) vr = Reshape(v, split)
      qt = Transpose<perm=[0,2,1,3]>(qr) kt = Transpose<perm=[0,2,3,1]>(kr) vt = Transpose<perm=[0,2,1,3]>(vr)
      s = MatMul(qt, kt) p = Softmax<axis=-1>(s) o = MatMul(p, vt)
      ot = Transpose<perm=[0,2,1,3]>(o) m = Reshape(ot, join) z = MatMul(m, wo) y = MatMul(z, last)
    }
    """
    wo = normal(8, 6)
    wo[:, :3] *= reach[:, None]  # the last two are large where their readers' weights are small
    last = np.zeros((6, 3), np.float32)
    last[:3] = np.eye(3)
    return build(
        text, wq=normal(8, 8), wk=normal(8, 8, seed=1), wv=normal(8, 8, seed=2), wo=wo, last=last,
        integers={"split": [0, 0, 4, 2], "join": [0, 0, -1]},
    )  # fmt: skip


def test_heads_go_in_the_order_in_which_the_answer_needs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = heads()
    analysis = analyse(model)
    data = calibration(x=normal(64, 5, 8))
    group = next(g for g in analysis.groups if g.kind == "head")
    found = rank("obs", model, analysis, data)[group.id]
    assert found.order[:2].tolist() == [2, 3]
    assert (np.diff(found.loss) >= 0).all()

    def none(context: Context) -> None:
        raise PassError("there is no gradient")

    monkeypatch.setattr(obs_module, "fisher", none)
    without = rank("obs", model, analysis, data)[group.id]
    assert sorted(without.order) == [0, 1, 2, 3]
