import numpy as np
import pytest

from edgeprune.recovery import ridge
from edgeprune.recovery.ridge import Moments, refit


def data(rows: int = 600, features: int = 7, outputs: int = 3, groups: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((groups, rows, features)) + 100.0
    mixing = rng.standard_normal((groups, outputs, features))
    return x, x @ mixing.transpose(0, 2, 1) + 5.0


@pytest.mark.parametrize("small", [0, 64])
def test_moments_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(ridge, "SMALL_FEATURES", small)
    x, y = data()
    moments = Moments()
    for start in range(0, 600, 50):
        moments.add(x[:, start : start + 50].astype(np.float32), y[:, start : start + 50])
    c_xx, c_yx = moments.covariances()
    together = [np.cov(np.concatenate([y[g], x[g]], axis=1).T, bias=True) for g in range(2)]
    np.testing.assert_allclose(c_xx, [c[3:, 3:] for c in together], rtol=0, atol=1e-5)
    np.testing.assert_allclose(c_yx, [c[:3, 3:] for c in together], rtol=0, atol=1e-4)
    np.testing.assert_allclose(moments.means()[0], x.mean(axis=1), rtol=1e-7)
    raw, _ = moments.covariances(centred=False)
    np.testing.assert_allclose(raw, x.transpose(0, 2, 1) @ x / 600, rtol=1e-6)


def test_rows_are_centred_a_few_at_a_time_and_few_of_them_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "CENTRED_VALUES", 2 * 7 * 30)  # 30 rows of two groups with seven features
    monkeypatch.setattr(ridge, "WAITING_ROWS", 4)
    sizes: list[int] = []
    add = Moments._add_centred

    def counted(moments: Moments, x: np.ndarray, y: np.ndarray) -> None:
        sizes.append(x.shape[1])
        add(moments, x, y)

    monkeypatch.setattr(Moments, "_add_centred", counted)
    x, y = data()
    moments = Moments()
    for start, stop in ((0, 2), (2, 5), (5, 100)):
        moments.add(x[:, start:stop], y[:, start:stop])
    assert sizes == [5, 30, 30, 30, 5]
    for found, wanted in zip(moments.covariances()[0], x[:, :100], strict=True):
        np.testing.assert_allclose(found, np.cov(wanted.T, bias=True), rtol=0, atol=1e-9)


def test_diagonal_moments_are_variances() -> None:
    x, y = data()
    moments = Moments(diagonal=True)
    moments.add(x, y)
    np.testing.assert_allclose(moments.covariances()[0], x.var(axis=1), rtol=1e-9)


@pytest.mark.parametrize("small", [0, 64])
def test_a_linear_relation_is_found_exactly(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(ridge, "SMALL_FEATURES", small)
    x, y = data()
    moments = Moments()
    moments.add(x[:, :500], y[:, :500])
    fit = refit([moments], [(x[:, 500:], y[:, 500:])], np.zeros((2, 3, 7)))
    np.testing.assert_allclose(x @ fit.matrix.transpose(0, 2, 1) + fit.offset[:, None], y, rtol=0, atol=1e-4)
    assert fit.error_after < 1e-10 < fit.error_before


def test_noise_is_not_fitted() -> None:
    rng = np.random.default_rng(0)
    x, start = rng.standard_normal((1, 60, 50)), rng.standard_normal((1, 4, 50))
    y = x @ start.transpose(0, 2, 1) + rng.standard_normal((1, 60, 4)) + 3.0
    moments = Moments()
    moments.add(x[:, :52], y[:, :52])
    fit = refit([moments], [(x[:, 52:], y[:, 52:])], start)
    assert fit.damping >= 0.1
    assert fit.error_after <= fit.error_before


def test_the_statistics_of_least_error_are_chosen_and_all_outputs_of_a_wide_layer_are_refitted() -> None:
    """Of 300 outputs only every second one is scored; one candidate has other inputs than those that are held out."""
    x, y = data(outputs=300)
    rng = np.random.default_rng(1)
    right, wrong = Moments(), Moments()
    right.add(x[:, :500], y[:, :500])
    wrong.add(x[:, :500] + rng.standard_normal((2, 500, 7)), y[:, :500])
    for candidates in ([right, wrong], [wrong, right]):
        fit = refit(candidates, [(x[:, 500:], y[:, 500:])], np.zeros((2, 300, 7)))
        np.testing.assert_allclose(x @ fit.matrix.transpose(0, 2, 1) + fit.offset[:, None], y, rtol=0, atol=1e-4)
        assert fit.error_after < 1e-10 < fit.error_before
    assert (right.rows, wrong.rows) == (700, 500)


def test_without_damping_only_the_bias_moves() -> None:
    x, y = data()
    moments = Moments(diagonal=True)
    moments.add(x[:, :500], y[:, :500])
    start = np.ones((2, 3, 7))
    fit = refit([moments], [(x[:, 500:], y[:, 500:])], start, dampings=())
    np.testing.assert_array_equal(fit.matrix, start)
    np.testing.assert_allclose(fit.offset, y.mean(axis=1) - x.mean(axis=1).sum(axis=1)[:, None], rtol=1e-9)


def test_without_intercept_the_mean_is_part_of_the_fit() -> None:
    x = data()[0] - 98.0
    y = x @ np.random.default_rng(1).standard_normal((2, 7, 3))
    moments = Moments()
    moments.add(x[:, :500], y[:, :500])
    fit = refit([moments], [(x[:, 500:], y[:, 500:])], np.zeros((2, 3, 7)), intercept=False)
    np.testing.assert_array_equal(fit.offset, 0)
    np.testing.assert_allclose(x @ fit.matrix.transpose(0, 2, 1), y, rtol=0, atol=1e-3)


def test_constant_features_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal((1, 40, 2))
    moments = Moments()
    moments.add(np.ones((1, 32, 100)), y[:, :32])
    fit = refit([moments], [(np.ones((1, 8, 100)), y[:, 32:])], np.ones((1, 2, 100)))
    assert np.isfinite(fit.matrix).all()
    np.testing.assert_allclose(fit.matrix.sum(axis=2)[0] + fit.offset[0], y[0].mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize("features", [5, 70, 300])
@pytest.mark.parametrize("single", [False, True])
def test_settled_moments_give_the_same_covariances_again(features: int, single: bool) -> None:
    rng = np.random.default_rng(0)
    rows = (3 + rng.standard_normal((2, 500, features))).astype(np.float32)
    moments = Moments(dtype=np.float32 if single else None)
    for part in np.split(rows, 5, axis=1):
        moments.add(part, np.zeros((*part.shape[:2], 0), np.float32))
    before, _ = moments.covariances()
    moments.settle()
    after, _ = moments.covariances()
    assert after is moments.covariances()[0]
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(after, after.transpose(0, 2, 1))
    expected = np.stack([np.cov(x.T, bias=True) for x in rows.astype(np.float64)])
    np.testing.assert_allclose(after, expected, atol=3e-6 if single else 1e-12)
    assert after.dtype == (np.float32 if single else np.float64)
