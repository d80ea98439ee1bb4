from edgeprune.calibration.sample_counts import DENSE_PRICES, PRICES, SampleCount


def test_large_networks_take_fewer_samples_within_the_bounds() -> None:
    count = SampleCount(1e10, 4, 32)
    assert [count.of(macs) for macs in (0, 1e8, 1e9, 2e9, 1e12)] == [32, 32, 10, 5, 4]


def test_one_image_of_a_map_shows_more_than_one_of_class_scores() -> None:
    assert DENSE_PRICES.of(1e11) < PRICES.of(1e11)
    assert DENSE_PRICES.of(1e6) == PRICES.of(1e6)
