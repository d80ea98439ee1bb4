import numpy as np

from edgeprune.recovery.output_error import output_error
from edgeprune.recovery.output_weights import learn_weights


def quadratic(reference: dict, other: dict) -> float:
    """Error by the factors, averaged over the samples."""
    weights = learn_weights([reference])
    factors = weights.factors(reference)
    return float(sum((factors[n] * (reference[n] - other[n]) ** 2).sum() for n in reference))


def test_it_is_the_output_error_of_plain_outputs() -> None:
    rng = np.random.default_rng(0)
    reference = {"y": rng.standard_normal((6, 3, 5, 7)) * np.array([1, 10, 100])[:, None, None]}
    other = {"y": reference["y"] + 0.1 * rng.standard_normal((6, 3, 5, 7))}
    np.testing.assert_allclose(quadratic(reference, other), output_error([reference["y"]], [other["y"]]), rtol=1e-5)


def test_it_is_the_output_error_of_boxes_and_scores() -> None:
    rng = np.random.default_rng(0)
    scores = np.where(rng.random((6, 2, 50)) < 0.1, rng.random((6, 2, 50)), 0.001 * rng.random((6, 2, 50)))
    boxes = 100 * rng.random((6, 4, 50))
    reference = {"y": np.concatenate([boxes, scores], axis=1)}
    other = {"y": reference["y"] * (1 + 0.1 * rng.standard_normal((6, 6, 50)))}
    np.testing.assert_allclose(quadratic(reference, other), output_error([reference["y"]], [other["y"]]), rtol=1e-5)


def test_boxes_without_a_score_count_little() -> None:
    scores = np.zeros((4, 1, 30))
    scores[:, 0, 3] = 0.9
    reference = {"y": np.concatenate([np.random.default_rng(1).random((4, 2, 30)) * 50, scores], axis=1)}
    factors = learn_weights([reference]).factors(reference)["y"]
    assert factors.shape == (4, 3, 30)
    assert (factors[:, :2, 3] > 0).all()
    assert not factors[:, :2, np.arange(30) != 3].any()


def test_outputs_have_their_shares() -> None:
    rng = np.random.default_rng(2)
    reference = {"y": rng.standard_normal((6, 3, 5, 7)), "z": rng.standard_normal((6, 4, 2, 2))}
    equal, unequal = learn_weights([reference]), learn_weights([reference], {"y": 0.1, "z": 0.3})
    np.testing.assert_allclose(unequal.share["y"], equal.share["y"] / 2)
    np.testing.assert_allclose(unequal.share["z"], equal.share["z"] * 1.5)


def test_samples_may_lie_along_any_axis() -> None:
    rng = np.random.default_rng(4)
    y = rng.standard_normal((6, 5, 1, 3)) * np.array([1, 10, 100])
    z = rng.standard_normal((6, 4))
    plain = learn_weights([{"y": y, "z": z}]).factors({"y": y, "z": z})
    moved = {"y": np.moveaxis(y, 0, 2), "z": z.T}
    batches = [{"y": moved["y"][:, :, i : i + 1], "z": moved["z"][:, i : i + 1]} for i in range(6)]
    found = learn_weights(batches, axes={"y": 2, "z": 1}).factors(moved)
    np.testing.assert_allclose(found["y"], np.moveaxis(plain["y"], 0, 2), rtol=1e-6)
    np.testing.assert_allclose(found["z"], plain["z"].T, rtol=1e-6)


def test_an_output_without_an_axis_of_samples_is_one_sample_a_batch() -> None:
    y = np.random.default_rng(5).standard_normal((6, 5, 7))
    whole = learn_weights([{"y": y}]).factors({"y": y})["y"]
    found = learn_weights([{"y": x} for x in y], axes={}).factors({"y": y[0]})["y"]
    assert found.shape == (5, 7)
    np.testing.assert_allclose(found, 6 * whole[0], rtol=1e-6)
