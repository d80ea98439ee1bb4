"""Trials of schedules on a small transformer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeprune import graph
from edgeprune.calibration import Arrays
from edgeprune.dependency import OpenedModel, open_model
from edgeprune.passes.tokens import Site, token_sites
from edgeprune.support import Progress
from edgeprune.tokens import TokenTrial, schedules, try_schedules, with_fewer_tokens
from tests.passes.tokens.vits import Vit


def opened(folder: Path) -> tuple[OpenedModel, tuple[Site, ...]]:
    graph.save(Vit(tokens=17, depth=3).model(), folder / "vit.onnx")
    made = open_model(folder / "vit.onnx", {}, Progress())
    sites = token_sites(made.dense)
    assert sites
    return made, tuple(sites)


def test_the_opened_model_is_made_again(tmp_path: Path) -> None:
    model, sites = opened(tmp_path)
    schedule = schedules(sites, ["tome"])[0]
    reduced = with_fewer_tokens(model, schedule, sites)
    assert reduced.original is model.original
    shapes = {v.name: tuple(v.shape) for node in reduced.fixed.graph for v in node.outputs if v.shape is not None}
    assert shapes["block2"] == (1, schedule.stay, 8)
    assert [g.size for g in reduced.analysis.groups] == [g.size for g in model.analysis.groups]
    assert [g.id for g in reduced.analysis.groups] == [g.id for g in model.analysis.groups]


def test_trials_that_are_slower_and_worse_than_another_are_left_out(tmp_path: Path) -> None:
    model, sites = opened(tmp_path)
    wanted = schedules(sites, ["tome"])
    times = np.linspace(0.5, 1.2, len(wanted))
    errors = iter([0.3, 0.1, 0.2, *np.zeros(len(wanted))])
    trials, least = try_schedules(
        model, sites, wanted, lambda models, _: times[: len(models)].tolist(), lambda _: next(errors), lambda _: None
    )
    assert least == 0.5
    assert [trial.error for trial in trials] == [0.3, 0.1, 0.0]
    assert [trial.share for trial in trials] == sorted(trial.share for trial in trials)
    assert max(trial.share for trial in trials) <= 0.97


def test_stored_trials_are_not_run_again(tmp_path: Path) -> None:
    model, sites = opened(tmp_path)
    wanted = schedules(sites, ["tome"])
    stored: list[Arrays] = []

    def remember(compute: Callable[[], Arrays]) -> Arrays:
        if not stored:
            stored.append(compute())
        return stored[0]

    errors = iter(np.linspace(0.3, 0.1, len(wanted)))

    def run() -> tuple[list[TokenTrial], float]:
        times = np.linspace(0.5, 0.9, len(wanted)).tolist()
        return try_schedules(model, sites, wanted, lambda *_: times, lambda _: next(errors), lambda _: None, remember)

    first, least = run()
    again, same = run()  # the iterator of errors is at its end
    assert least == same
    assert [(t.schedule, t.share, t.error) for t in again] == [(t.schedule, t.share, t.error) for t in first]
    assert [graph.to_bytes(t.opened.dense) for t in again] == [graph.to_bytes(t.opened.dense) for t in first]
    assert len(first) == len(wanted)
