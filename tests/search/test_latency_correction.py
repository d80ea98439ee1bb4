"""What a few noisy measurements say about other candidates."""

import pytest

from edgeprune.search.latency_correction import Estimate, LatencyCorrection


def learned(*measured: tuple[str, float, float, float], is_cut: bool = True) -> LatencyCorrection:
    """From tuples of a key, a predicted latency, a measured share and its noise."""
    correction = LatencyCorrection()
    for key, predicted_us, share, noise in measured:
        correction.add(key, predicted_us, Estimate(share, noise), is_cut=is_cut)
    return correction


def test_a_measurement_without_noise_is_believed() -> None:
    correction = learned(("a", 100.0, 0.9, 0.0), ("b", 120.0, 1.3, 0.0))
    for key, predicted_us, share in (("a", 100.0, 0.9), ("b", 120.0, 1.3)):
        found = correction.expected(predicted_us, key, is_cut=True)
        assert found.share == pytest.approx(share, rel=1e-6)
        assert found.noise == pytest.approx(0.0, abs=1e-5)


def test_of_contradicting_measurements_the_more_precise_one_counts_more() -> None:
    found = learned(("a", 100.0, 0.96, 0.03), ("a", 100.0, 1.0, 0.01)).expected(100.0, "a", is_cut=True)
    assert 0.985 < found.share < 1.0
    assert found.noise < 0.02


def test_equally_precise_ones_are_averaged() -> None:
    found = learned(("a", 100.0, 0.9, 0.02), ("a", 100.0, 1.0, 0.02)).expected(100.0, "a", is_cut=True)
    assert found.share == pytest.approx((0.9 * 1.0) ** 0.5, rel=1e-3)


def test_the_uncertainty_of_other_candidates_grows_with_their_distance() -> None:
    correction = learned(("a", 100.0, 1.0, 0.01))
    near, far = (correction.expected(us, is_cut=True) for us in (101.0, 300.0))
    uncut = correction.expected(101.0, is_cut=False)
    assert near.share == pytest.approx(1.01, rel=1e-3)
    assert far.share == pytest.approx(3.0, rel=1e-3)
    assert 0.01 < near.noise < far.noise
    assert near.noise < uncut.noise


def test_between_two_measurements_factors_lie_between_theirs() -> None:
    found = learned(("a", 100.0, 1.0, 0.0), ("b", 200.0, 2.4, 0.0)).expected(150.0, is_cut=True)
    assert 1.5 < found.share < 1.8


@pytest.mark.parametrize("share", [0.5, 0.97, 2.0])
def test_the_latency_for_a_share_is_expected_to_need_that_share(share: float) -> None:
    correction = learned(("a", 100.0, 1.0, 0.01), ("b", 130.0, 1.5, 0.03))
    predicted_us = correction.predicted_us(share, is_cut=True)
    assert correction.expected(predicted_us, is_cut=True).share == pytest.approx(share, rel=1e-6)


def test_without_measurements_nothing_is_expected() -> None:
    with pytest.raises(ValueError, match="no candidate was measured yet"):
        LatencyCorrection().expected(100.0, is_cut=True)


def test_an_anchor_removes_what_slowed_down_a_whole_measurement() -> None:
    correction = LatencyCorrection()
    for key, predicted_us, share, slowed in (
        ("a", 100.0, 0.9, 1.1),
        ("b", 102.0, 0.918, 0.9),
        ("c", 104.0, 0.936, 1.0),
    ):
        correction.add(key, predicted_us, Estimate(share * slowed, 0.002), is_cut=True, anchor=1.5 * slowed)
    for predicted_us in (100.0, 102.0, 103.0):
        assert correction.expected(predicted_us, is_cut=True).share == pytest.approx(0.009 * predicted_us, rel=0.01)


def test_an_anchor_that_scatters_makes_everything_uncertain() -> None:
    noises = []
    for scatter in (1.0, 1.1):
        correction = LatencyCorrection()
        for slowed in (scatter, 1 / scatter):
            correction.add("a", 100.0, Estimate(0.9 * slowed, 0.002), is_cut=True, anchor=slowed)
        noises.append(correction.expected(100.0, "a", is_cut=True).noise)
    assert noises[0] < 0.01 < 0.05 < noises[1]


def test_measurements_that_scatter_more_than_they_claim_are_trusted_less() -> None:
    steady, unsteady = (
        learned(("a", 100.0, 0.9, 0.004), ("b", 104.0, 0.936 * off, 0.004), ("c", 108.0, 0.972 / off, 0.004))
        for off in (1.0, 1.08)
    )
    assert steady.expected(100.0, "a", is_cut=True).noise < 0.005
    assert unsteady.expected(100.0, "a", is_cut=True).noise > 0.015
    assert unsteady.least_noise > 4 * steady.least_noise


def test_what_claims_to_have_no_noise_has_none() -> None:
    correction = learned(("a", 100.0, 0.9, 0.0), ("b", 104.0, 1.1, 0.0))
    assert correction.expected(100.0, "a", is_cut=True).share == pytest.approx(0.9, rel=1e-6)
