"""Batches that a student learns from."""

import itertools

import numpy as np
import pytest

from edgeprune.calibration.activation_spool import Spool
from edgeprune.recovery import student_batches
from edgeprune.recovery.student_batches import StudentBatches
from tests.small_models import calibration


class Teacher:
    """Doubles its input, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, feeds: dict) -> dict:
        self.asked += 1
        return {"wanted": 2 * feeds["x"]}


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float32)[:, None]


def test_every_sample_comes_once_an_epoch_with_what_is_wanted_of_it() -> None:
    teacher = Teacher()
    with Spool() as spool:
        batches = StudentBatches(spool, calibration(x=numbered(12)), {"x": (1, 1)}, 2, 3, teacher, again=True)
        steps = list(itertools.islice(batches.endless(np.random.default_rng(0)), 6))
    assert [len(step) for step in steps] == [3] * 6
    for epoch in (steps[:2], steps[2:4], steps[4:]):
        seen = np.concatenate([batch["x"] for step in epoch for batch in step])
        assert sorted(seen.ravel()) == list(range(12))
    assert all((batch["wanted"] == 2 * batch["x"]).all() for step in steps for batch in step)
    assert teacher.asked == 6


@pytest.mark.parametrize(("again", "room"), [(False, 1 << 30), (True, 0)])
def test_targets_that_are_not_worth_keeping_are_asked_for_each_time(
    again: bool, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student_batches, "KEPT_BYTES", room)
    teacher = Teacher()
    with Spool() as spool:
        batches = StudentBatches(spool, calibration(x=numbered(4)), {"x": (1, 1)}, 2, 1, teacher, again=again)
        steps = list(itertools.islice(batches.endless(np.random.default_rng(0)), 4))
    assert teacher.asked == 4
    assert all((batch["wanted"] == 2 * batch["x"]).all() for step in steps for batch in step)


def test_fewer_samples_than_a_step_takes_make_a_smaller_step() -> None:
    with Spool() as spool:
        batches = StudentBatches(spool, calibration(x=numbered(3)), {"x": (1, 1)}, 1, 8, Teacher(), again=True)
        step = next(batches.endless(np.random.default_rng(0)))
    assert sorted(float(batch["x"][0, 0]) for batch in step) == [0, 1, 2]


def test_samples_of_another_shape_are_left_out() -> None:
    with Spool() as spool:
        batches = StudentBatches(spool, calibration(x=numbered(3)), {"x": (1, 2)}, 1, 1, Teacher(), again=True)
        assert list(batches.endless(np.random.default_rng(0))) == []
