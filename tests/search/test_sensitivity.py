from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from edgeprune.dependency.groups import Group
from edgeprune.importance.reader_refits import refit_widths, removed_at_once
from edgeprune.search.sensitivity import format_losses, tried_widths, width_losses


def group(size: int) -> Group:
    return Group("g", "channel", size, ())


def test_measured_widths_keep_their_loss_and_others_are_interpolated() -> None:
    curve = np.linspace(0, 1, 33) ** 2
    widths = np.arange(4, 33, 4)
    tried = {w: 0.5 * (1 - w / 32) ** 2 for w in (12, 24)}
    (losses,) = width_losses([group(32)], [widths], [tried], {"g": curve})
    np.testing.assert_allclose(losses, 0.5 * (1 - widths / 32) ** 2, rtol=1e-3, atol=1e-9)
    assert losses[-1] == 0
    assert (np.diff(losses) <= 0).all()


def test_losses_never_increase_with_the_width_although_trials_have_noise() -> None:
    noise = {24: 0.2, 48: 0.25}
    (losses,) = width_losses([group(64)], [np.arange(8, 65, 8)], [noise], {"g": np.linspace(0, 1, 65)})
    assert (np.diff(losses) <= 0).all()


def test_a_group_with_one_width_has_no_loss_and_is_not_tried() -> None:
    levels = np.array([1])
    assert tried_widths(1, levels, refit_widths(1, 1)) == []
    (losses,) = width_losses([group(1)], [levels], [{}], {"g": np.zeros(2)})
    assert losses.tolist() == [0]


def test_only_two_widths_are_tried() -> None:
    assert tried_widths(64, np.arange(8, 65, 8), refit_widths(64, 8)) == [24, 48]


def test_the_smallest_width_is_tried_if_it_is_far_below_the_others() -> None:
    levels = np.array([8, *range(16, 129, 8)])
    assert tried_widths(128, levels, refit_widths(128, 8)) == [8, 48, 96]
    tried = {w: 1 - w / 128 for w in (8, 48, 96)}
    (losses,) = width_losses([group(128)], [levels], [tried], {"g": np.linspace(0, 1, 129)})
    assert losses[0] == pytest.approx(1 - 8 / 128)


def test_a_branch_that_can_be_dropped_is_tried_without_it() -> None:
    assert tried_widths(64, np.array([0, *range(8, 65, 8)]), refit_widths(64, 8)) == [0, 24, 48]


def test_if_one_width_is_enough_it_is_the_middle_one_besides_none() -> None:
    levels = np.array([8, *range(16, 129, 8)])
    assert tried_widths(128, levels, refit_widths(128, 8), one=True) == [48]
    assert tried_widths(64, np.array([0, *range(8, 65, 8)]), refit_widths(64, 8), one=True) == [0, 24]


@pytest.mark.parametrize("dropped", [False, True])
def test_a_group_with_one_width_is_as_steep_as_the_others(dropped: bool) -> None:
    """The output's loss is the square of the ranking's loss in all groups, times a factor of each."""
    curve = np.linspace(0, 1, 65)
    levels = np.array([*([0] if dropped else []), *range(8, 65, 8)])
    thorough = {w: (1 - w / 64) ** 2 for w in (24, 48)}
    single = {24: 3 * (1 - 24 / 64) ** 2} | ({0: 50.0} if dropped else {})
    losses = width_losses([group(64), replace(group(64), id="h")], [levels, levels], [thorough, single],
                          {"g": curve, "h": curve})  # fmt: skip
    above = levels >= 24
    np.testing.assert_allclose(losses[1][above], 3 * losses[0][above], rtol=1e-3, atol=1e-9)
    assert losses[1][0] == pytest.approx(50.0) or not dropped


@pytest.mark.parametrize(("size", "step"), [(2, 8), (3, 8), (12, 8), (16, 8), (1000, 8), (6, 1)])
def test_every_group_has_a_width_at_which_its_readers_are_refitted(size: int, step: int) -> None:
    batch = removed_at_once(size, step)
    assert all(0 < w < size and (size - w) % batch == 0 for w in refit_widths(size, batch))
    assert refit_widths(size, batch)


def test_the_blocks_with_large_errors_are_found_in_few_trials() -> None:
    errors = {11: 0.9, 40: 0.1}
    trials = 0

    def trial(chosen: Mapping[int, str]) -> float:
        nonlocal trials
        trials += 1
        return sum(errors.get(b, 1e-5) for b in chosen)

    losses = format_losses([("fp32", "int8")] * 64, "fp32", trial)
    assert losses[11]["int8"] == pytest.approx(0.9, rel=1e-3)
    assert losses[40]["int8"] == pytest.approx(0.1, rel=1e-3)
    assert all(loss["fp32"] == 0 for loss in losses)
    assert sum(loss["int8"] for loss in losses) == pytest.approx(1.0, abs=0.02)
    assert trials < 32


def test_ranges_are_halved_no_more_often_than_allowed() -> None:
    tried: list[int] = []

    def trial(chosen: Mapping[int, str]) -> float:
        tried.append(len(chosen))
        return float(len(chosen))

    losses = format_losses([("fp32", "int8")] * 64, "fp32", trial, splits=8)
    assert len(tried) == 17
    assert sum(loss["int8"] for loss in losses) == pytest.approx(64.0)


def test_a_second_int8_format_needs_one_more_trial() -> None:
    errors, tried = {3: 0.8}, []

    def trial(chosen: Mapping[int, str]) -> float:
        tried.append(set(chosen.values()))
        return sum(errors.get(b, 0.001) * (0.5 if f == "int8-core" else 1.0) for b, f in chosen.items())

    losses = format_losses([("fp32", "int8", "int8-core")] * 16, "fp32", trial)
    assert tried.count({"int8-core"}) == 1
    for loss in losses:
        assert loss["int8-core"] == pytest.approx(loss["int8"] / 2, rel=1e-6)


def test_blocks_without_a_format_have_no_loss_for_it() -> None:
    losses = format_losses([("fp32",), ("fp32", "int8")], "fp32", lambda chosen: float(len(chosen)))
    assert losses == ({"fp32": 0.0}, {"fp32": 0.0, "int8": 1.0})


def test_calls_of_one_layer_are_tried_together_and_share_the_loss() -> None:
    tried = []

    def trial(chosen: Mapping[int, str]) -> float:
        tried.append(sorted(chosen))
        return 0.1 * sum(3.0 if b in (0, 2) else 1.0 for b in chosen)

    formats = [("fp32", "int8")] * 4
    losses = format_losses(formats, "fp32", trial, twins=[(0, 2)])
    assert [round(of["int8"], 6) for of in losses] == [0.3, 0.1, 0.3, 0.1]
    assert all((0 in blocks) == (2 in blocks) for blocks in tried)
