import numpy as np
import pytest

from edgeprune.support import random_values


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_single_float_is_a_valid_factor(shape: tuple[int, ...]) -> None:
    for seed in range(50):
        value = random_values(shape, np.dtype(np.float32), np.random.default_rng(seed))
        assert value.shape == shape
        assert value.dtype == np.float32
        assert 0.25 <= float(value.reshape(())) <= 2


def test_floats_are_normal_and_integers_are_valid_indices() -> None:
    floats = random_values((1000, 2), np.dtype(np.float16), np.random.default_rng(0))
    assert floats.dtype == np.float16
    assert abs(float(floats.std()) - 1) < 0.1
    for dtype in (np.int64, np.uint8, np.bool_):
        found = random_values((100,), np.dtype(dtype), np.random.default_rng(0))
        assert found.dtype == dtype
        assert set(found.astype(int).tolist()) == {0, 1}
