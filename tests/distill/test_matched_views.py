"""Views are as strong as a student bears: full strength after a deep cut, weak ones where it is nearly right."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.calibration import open_calibration
from edgeprune.support import Progress
from tests.distill.folders import pruned_folder

torch = pytest.importorskip("torch")

from edgeprune.distill import Settings  # noqa: E402
from edgeprune.distill.augment import Augmenter, Views  # noqa: E402
from edgeprune.distill.folder import read_folder  # noqa: E402
from edgeprune.distill.matched_views import BEARABLE, matched  # noqa: E402
from edgeprune.distill.stage import open_trainer  # noqa: E402
from edgeprune.distill.workers import Workers  # noqa: E402


def error_of(per_strength: float, flips: float):
    """An error that grows with the strength, and jumps where a view may be flipped."""
    return lambda views: 1.0 + per_strength * views.mixed / Views().mixed + flips * (views.flip > 0)


@pytest.mark.parametrize(
    ("per_strength", "flips", "strength", "flipped"),
    [
        (0.5 * BEARABLE, 0.0, 1.0, True),  # a deep cut: the images are as hard as the views
        (1.9 * (BEARABLE - 1), 0.0, 0.5, True),
        (3.0 * (BEARABLE - 1), 0.0, 0.25, True),
        (99.0, 0.0, 0.125, True),  # never nothing
        (0.5 * (BEARABLE - 1), 2 * BEARABLE, 1.0, False),  # as for text: flips alone are unlike the data
        (99.0, 2 * BEARABLE, 0.125, False),
    ],
)
def test_the_strongest_views_that_are_borne(per_strength: float, flips: float, strength: float, flipped: bool):
    found, chosen = matched(Views(), error_of(per_strength, flips), 1.0)
    assert chosen == strength
    assert (found.flip > 0) == flipped
    assert found == (Views() if flipped else Views(flip=0.0)).scaled(strength)


def test_views_without_strength_are_the_images():
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    low, high, mean, std = torch.zeros(3), torch.ones(3), torch.full((3,), 0.5), torch.full((3,), 0.3)
    for strength, least, most in ((0.0, 0.0, 1e-5), (0.125, 1e-3, 0.1), (1.0, 0.1, 1.0)):
        views = Views(plain=0.0, flip=0.0).scaled(strength)
        drawn = Augmenter(low, high, mean, std, views, torch.Generator().manual_seed(1))(images)
        assert least <= float((drawn - images).abs().mean()) <= most


def test_a_trainer_weakens_the_views_of_a_good_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, file = pruned_folder(tmp_path)
    given = read_folder(folder)
    data = open_calibration(str(file), given.dense)
    cut = open_trainer(given, data, Settings(steps=1), Progress(), Workers())
    assert cut.views.augmenter is not None
    assert (cut.strength, cut.views.augmenter.views) == (1.0, Views())
    monkeypatch.setattr("edgeprune.distill.trainer.matched", lambda views, error, held_out: (
        views.scaled(0.25) if error(views) > 0 and held_out > 0 else views, 0.25))  # fmt: skip
    near = open_trainer(given, data, Settings(steps=1), Progress(), Workers())
    assert near.strength == 0.25
    assert near.views.augmenter is not None
    assert near.views.augmenter.views == Views().scaled(0.25)
    plain = open_trainer(given, data, Settings(steps=1, augment=False), Progress(), Workers())
    assert plain.strength == 1.0


@pytest.mark.parametrize(("error", "rate"), [(0.5, 0.01), (0.35, 0.01), (0.0023, 0.00035), (0.0, 1e-5)])
def test_the_rate_falls_with_the_error_of_the_start(
    error: float, rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two starts gained by these rates; a perfect one has the least."""
    folder, file = pruned_folder(tmp_path)
    given = read_folder(folder)
    data = open_calibration(str(file), given.dense)
    trainer = open_trainer(given, data, Settings(steps=200, batch=8), Progress(), Workers())
    monkeypatch.setattr(trainer, "_on_images", error)
    monkeypatch.setattr(trainer, "_trial_loss", lambda: trainer.backward(0.0) * 0 + 1.0)  # nothing does harm
    assert trainer.found_rate() == pytest.approx(rate, rel=0.05)


def test_no_strength_is_tried_twice():
    """Where views are never flipped, as for labels of places, too."""
    plain, error, tried = Views(flip=0.0), error_of(99.0, 0.0), []
    assert matched(plain, lambda views: tried.append(views) or error(views), 1.0)[1] == 0.125  # type: ignore[func-returns-value]
    assert len(tried) == len({views.mixed for views in tried}) == 3


def test_views_of_large_images_are_those_of_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Their images and the outputs of the teacher stay in memory while it trains."""
    folder, file = pruned_folder(tmp_path)
    given = read_folder(folder)
    data = open_calibration(str(file), given.dense)
    (image,) = next(iter(data.batches(1))).values()
    monkeypatch.setattr("edgeprune.distill.matched_views.DECIDING_BYTES", 8 * image.nbytes)
    trainer = open_trainer(given, data, Settings(steps=1), Progress(), Workers())
    decided = sum(len(next(iter(part.values()))) for part, _ in trainer._deciding)
    assert decided == len(trainer.held_out) + 3 * 2


@pytest.mark.parametrize(("steps", "share"), [(10, 0.1), (2000, 0.1), (100_000, 0.02)])
def test_scores_are_a_small_part_of_a_training_by_steps(steps: int, share: float, tmp_path: Path):
    """A score runs each held-out image four times; so often that it took half of the time it was made."""
    folder, file = pruned_folder(tmp_path)
    given = read_folder(folder)
    data = open_calibration(str(file), given.dense)
    trainer = open_trainer(given, data, Settings(steps=steps, batch=1, held_out=0.5), Progress(), Workers())
    trainer.curve *= 4
    assert trainer._interval() == share  # a tenth at most, since checkpoints are written with the scores
    trainer.settings = Settings(steps=steps, batch=32)
    assert 0.02 <= trainer._interval() <= share


def test_views_of_held_out_images_decide_as_well(tmp_path: Path):
    """A compile chose its weights by these images, so they alone speak for the start."""
    folder, file = pruned_folder(tmp_path)
    given = read_folder(folder)
    data = open_calibration(str(file), given.dense)
    some, alone = (
        open_trainer(given, data, Settings(steps=1, augment=augment), Progress(), Workers())
        for augment in (True, False)
    )
    held_out = next(iter(alone.held_out.arrays.values()))
    counts = [sum(len(next(iter(part.values()))) for part, _ in trainer._deciding) for trainer in (some, alone)]
    assert counts == [4 * len(held_out), len(held_out)]
    again = open_trainer(given, data, Settings(steps=1), Progress(), Workers())
    assert again.curve[0].error == some.curve[0].error  # always the same views
    assert some.curve[0].error != alone.curve[0].error
