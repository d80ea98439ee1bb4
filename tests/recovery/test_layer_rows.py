import numpy as np
import pytest

from edgeprune.errors import CalibrationError
from edgeprune.graph.linear_layers import find_linears
from edgeprune.recovery.layer_rows import Sampling, gather_rows
from tests.small_models import calibration, normal, two_convolutions


def test_wide_layers_get_fewer_rows_but_enough() -> None:
    sampling = Sampling(macs=1e9, rows_per_feature=4, least_rows=500, most_rows=10_000)
    assert [sampling.rows(k) for k in (10, 100, 1000, 10_000)] == [1280, 10_000, 4000, 40_000]
    assert sampling.rows(1000, outputs=9000) == 4000
    assert Sampling(macs=1e9, least_rows=500).rows(100, outputs=900) == 10_000
    assert Sampling(macs=0, rows_per_feature=0, least_rows=500).rows(1000) == 500


@pytest.mark.parametrize("batch_size", [1, 5, 40])
def test_rows_are_spread_over_the_samples_and_seeded(batch_size: int) -> None:
    model = two_convolutions(normal(4, 3, 3, 3), normal(5, 4, 3, 3))
    x = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    layers = list(find_linears(model).values())
    sampling = Sampling(macs=0, rows_per_feature=0, least_rows=400)

    def once() -> list[np.ndarray]:
        found = gather_rows(model, layers, calibration(batch_size, x=x), sampling)
        return [rows for layer, rows in found if layer.node == "second"]

    first, again = once(), once()
    assert [rows.shape for rows in first] == [(1, 400 * batch_size // 40, 36)] * (40 // batch_size)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_rows_are_taken_where_there_are_few() -> None:
    model = two_convolutions(normal(4, 3, 3, 3), normal(5, 4, 3, 3))
    x = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    layer = find_linears(model)["first"]
    ((_, rows),) = gather_rows(model, [layer], calibration(x=x), Sampling())
    np.testing.assert_array_equal(rows[0, :, 3 * 4 : 3 * 5], x.transpose(0, 2, 3, 1).reshape(-1, 3))


def test_activations_that_are_not_finite_are_named() -> None:
    model = two_convolutions(normal(4, 3, 3, 3) * 1e38, normal(5, 4, 3, 3))
    x = np.full((2, 3, 8, 8), 1e3, np.float32)
    with pytest.raises(CalibrationError, match="activation 'h' is NaN or infinite"):
        list(gather_rows(model, [find_linears(model)["second"]], calibration(x=x), Sampling()))
