import numpy as np

from edgeprune.recovery.adam import Adam


def test_it_finds_the_minimum_of_a_badly_scaled_bowl() -> None:
    wanted = {"a": np.array([1.0, -2.0], np.float32), "b": np.array([[300.0]], np.float32)}
    optimizer = Adam({"a": np.array([2.0, -1.0], np.float32), "b": np.array([[200.0]], np.float32)}, 0.05, 400)
    for _ in range(400):
        optimizer.step({n: np.float32(1e4) ** (n == "a") * (w - wanted[n]) for n, w in optimizer.weights.items()})
    np.testing.assert_allclose(optimizer.weights["a"], wanted["a"], rtol=1e-2)
    np.testing.assert_allclose(optimizer.weights["b"], wanted["b"], rtol=1e-2)


def test_a_gradient_that_is_not_finite_moves_nothing() -> None:
    optimizer = Adam({"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}, 0.1, 10)
    optimizer.step({"a": np.array([np.nan, 1.0], np.float32), "b": np.ones(2, np.float32)})
    np.testing.assert_array_equal(optimizer.weights["a"], 1)
    assert (optimizer.weights["b"] < 1).all()


def test_a_bias_of_zeros_moves_too() -> None:
    optimizer = Adam({"w": np.ones(4, np.float32), "b": np.zeros(3, np.float32)}, 0.1, 10)
    optimizer.step({"b": np.ones(3, np.float32)})
    assert (optimizer.weights["b"] < 0).all()


def test_a_weight_that_is_not_contiguous_moves_too() -> None:
    weights = {"w": np.ones((4, 3), np.float32).T}
    optimizer = Adam(weights, 0.1, 10)
    optimizer.step({"w": np.ones((3, 4), np.float32)})
    assert (weights["w"] < 1).all()


def test_pieces_of_a_large_weight_move_as_it_would_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    start, gradient = (rng.standard_normal((3, 9000)).astype(np.float32) for _ in range(2))
    optimizer = Adam({"w": start.copy()}, 0.01, 10)
    optimizer.step({"w": gradient})
    step = optimizer.weights["w"] - start
    # After the first step mean and root mean square are the gradient and its size: each weight moves equally far.
    assert np.allclose(step, step[0, 0] / np.sign(-gradient[0, 0]) * np.sign(-gradient), rtol=1e-3)
