"""The training loop, its schedule, and the held-out error that decides."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from edgeprune.distill.augment import Views
from edgeprune.distill.learner import Learner, Tensor
from edgeprune.distill.matched_views import DECIDING_VIEWS, SEEN, matched, those_with_views
from edgeprune.distill.optimizer import learning_rate
from edgeprune.recovery import output_error
from edgeprune.report import Training, TrainingPoint

USUAL_RATE, LEAST_RATE = 0.01, 1e-5
TRIAL_STEPS = 16
HARM = 2.0
"""A rate does harm if the smoothed loss grows by this factor."""
WARM_STEPS = 60
"""The learning rate rises over so many steps at least."""
FEW_STEPS = 100
"""With fewer steps than this there is no time to come back from large ones: the learning rate is lower."""
FAR, NEAR_POWER = 0.35, 2 / 3
"""With a smaller output error than this the weights are nearly right: the learning rate falls with this power of it.

At the peak of the learning rate the weights stray, and the output error grows by a share of itself that is proportional
to the rate over the root of the error. A ResNet-18 with an error of 0.0023 lost by a rate of 0.0014, and gained by
0.0004; a YOLOv8n with an error of 0.35 gains most by 0.01. Between them, at 0.11, a YOLOv8n gains as much by 0.01 as by
the 0.0045 of this rule.
"""
SCORING_SHARE = 0.1
"""Most time for scores, as a share of the training."""
PASSES = 4
"""Passes through a network that a sample of a step takes: one of the teacher, three of the student with gradients."""


@dataclass(frozen=True)
class Point:
    """A point of the curve: steps and minutes so far, and the held-out output error of the averaged weights."""

    step: int
    minutes: float
    error: float


@dataclass(eq=False)
class Trainer(Learner):
    """Trains the student until a limit is reached.

    Attributes:
        curve: held-out errors so far, the first before any step.
        best: the averaged weights with the least held-out error.
        rate: the peak learning rate; 0 before it is known.
        strength: of the views, 1 at most.
    """

    curve: list[Point] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    rate: float = 0.0
    strength: float = 1.0
    _deciding: list[tuple[dict[str, Tensor], Any]] = field(default_factory=list)
    _score_seconds: float = 0.0
    _on_images: float = 1.0

    def measure_start(self) -> None:
        """Score the student as it is; what each loss is then is its unit."""
        batch = self._batch_of(self.held_out, range(min(len(self.held_out), 32)))
        sums: dict[str, float] = {}
        count = 0
        with torch.no_grad():
            for part in self._parts(batch):
                teacher, student = self._values(part, self.names, half=False)
                for name, (_, one) in self.couple.losses.items():
                    sums[name] = sums.get(name, 0.0) + float(one.distance(teacher, student))
                count += 1
        self.start = {name: max(total / count, 1e-8) for name, total in sums.items()}
        self.match_views()
        self.curve.append(Point(0, 0.0, self.held_out_error({n: w.detach() for n, w in self.weights.items()})))
        self.best = {n: w.detach().clone() for n, w in self.weights.items()}

    def match_views(self) -> None:
        """Weaken the views of images to what the student bears, and let some of held-out images decide, too."""
        held_out = self._batch_of(self.held_out, range(len(self.held_out)))
        self._deciding = self._with_teacher(held_out)
        self._on_images = self._error_on(self._deciding)
        if self.views.augmenter is None:
            return
        some, drawn = {n: x[:SEEN] for n, x in held_out.items()}, torch.Generator()

        def error(views: Views) -> float:
            drawn.manual_seed(self.settings.seed)  # the same in all processes
            return self._error_on(self._with_teacher(self.views.with_views(views, drawn)(some)))

        strongest = self.views.augmenter.views
        views, self.strength = matched(strongest, error, self._on_images)
        self.views = self.views.with_views(views, self.generator)
        drawn.manual_seed(self.settings.seed)
        other = self.views.with_views(replace(views, plain=0.0), drawn)
        viewed = those_with_views(held_out, self._deciding)
        self._deciding += [part for _ in range(DECIDING_VIEWS) for part in self._with_teacher(other(viewed))]

    def run(self, report: Callable[[float, Point], None], save: Callable[[], None]) -> None:
        """Train until a limit is reached.

        Args:
            report: told the share of the work that is done, and the last point of the curve.
            save: writes a checkpoint; called after every point.

        Raises:
            ModelError: the loss is no number; the text says at which step.
            BackendError: memory ran out; the text says which micro-batch to take.
        """
        self.rate = self.settings.rate or self.rate or self.found_rate()
        warm = max(0.03, min(0.5, WARM_STEPS / max(1.0, self.expected_steps())))
        begun, last = time.monotonic() - self.seconds, self.done()
        while True:
            self.seconds = self.workers.largest(time.monotonic() - begun)
            done = self.done()
            if done >= 1:
                break
            if done - last >= self._interval():
                last = done
                self.score()
                report(done, self.curve[-1])
                save()
            self.step(learning_rate(self.rate, done, warm), done)
            report(done, self.curve[-1])
        self.score()
        report(1.0, self.curve[-1])

    def done(self) -> float:
        """The share of the work that is done, 1 at the end."""
        minutes, steps, epochs = self.settings.limits
        shares = [0.0]
        if minutes is not None:
            shares.append(self.seconds / 60 / minutes)
        if steps is not None:
            shares.append(self.steps / steps)
        if epochs is not None:
            batch = self.settings.batch * self.workers.count
            shares.append(self.steps / max(1, epochs * math.ceil(len(self.fit) / batch)))
        return max(shares)

    def expected_steps(self) -> float:
        """How many steps there will be, by the time of those so far."""
        minutes, steps, epochs = self.settings.limits
        batch = self.settings.batch * self.workers.count
        found = [float(steps)] if steps is not None else []
        found += [epochs * math.ceil(len(self.fit) / batch)] if epochs is not None else []
        found += [60 * minutes / self.step_seconds] if minutes is not None and self.step_seconds else []
        return min(found, default=1000.0)

    def _interval(self) -> float:
        """Share of the work between two scores: a fiftieth, or what makes scoring a small part.

        Without a limit in minutes it is counted, not timed, since the same seed shall give the same weights. It is then
        a tenth at most, since checkpoints are written with the scores.
        """
        least = 0.02 if len(self.curve) > 3 else 0.005
        minutes = self.settings.limits[0]
        if minutes is not None:
            return max(least, self._score_seconds / (SCORING_SHARE * 60 * minutes))
        scored = sum(len(next(iter(part.values()))) for part, _ in self._deciding)
        passes = PASSES * self.settings.batch * self.expected_steps()
        return max(least, min(0.1, scored / (SCORING_SHARE * passes)))

    def score(self) -> None:
        """Add a point to the curve; keep the weights if it is the best."""
        begun = time.monotonic()
        error = self.held_out_error(self.average.values)
        self._score_seconds = self.workers.largest(time.monotonic() - begun)
        self.curve.append(Point(self.steps, self.seconds / 60, error))
        if error <= min(p.error for p in self.curve):
            self.best = {n: w.clone() for n, w in self.average.values.items()}

    def held_out_error(self, weights: Mapping[str, Tensor]) -> float:
        """The output error of the student with these weights on the held-out samples."""
        with self._as(weights):
            return self._error_on(self._deciding)

    def _with_teacher(self, batch: dict[str, Tensor]) -> list[tuple[dict[str, Tensor], Any]]:
        """The parts of a batch, each with the teacher's outputs."""
        names = self.couple.outputs.names
        with torch.no_grad():
            return [(part, self.couple.teacher(part, names)) for part in self._parts(batch)]

    def _error_on(self, parts: Sequence[tuple[dict[str, Tensor], Any]]) -> float:
        """The output error of the student on parts with the teacher's outputs."""
        names = self.couple.outputs.names
        with torch.no_grad():
            found = [self.couple.student.module(part, names) for part, _ in parts]
        wanted = [self._together([values[n] for _, values in parts], n) for n in names]
        return output_error(wanted, [self._together([f[n] for f in found], n) for n in names], self.couple.outputs)

    def _together(self, parts: Sequence[Tensor], name: str) -> Any:
        axis = self.couple.axes.get(name, 0)
        return np.moveaxis(torch.cat(list(parts), axis).float().cpu().numpy(), axis, 0)

    @contextlib.contextmanager
    def _as(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Let the student have other weights."""
        mine = {n: w.detach().clone() for n, w in self.weights.items()}
        try:
            self._set(weights)
            yield
        finally:
            self._set(mine)

    def found_rate(self) -> float:
        """The usual learning rate for so many steps and such a start, or a third of the first one that does harm.

        Steps are relative to the weights, so one rate serves all networks. The harm is found by a short trial in which
        the rate grows from step to step (Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section
        3.3); its weights are given up.
        """
        state, average = self.state(), {n: v.clone() for n, v in self.average.values.items()}
        self._trial_loss()  # the first pass is slower than others
        begun = time.monotonic()
        first = self._trial_loss()
        self.step_seconds = self.workers.largest(time.monotonic() - begun)  # all take the same rate from it
        fewer = min(1.0, self.expected_steps() / FEW_STEPS) ** 0.5
        near = min(1.0, (self._on_images / FAR) ** NEAR_POWER)
        usual = max(LEAST_RATE, float(USUAL_RATE * fewer * near))
        smooth, rate = first, usual
        for number in range(TRIAL_STEPS):
            tried = usual * 10 ** (1.5 * number / (TRIAL_STEPS - 1) - 1)  # from a tenth to three times
            self.couple.student.mask_gradients()
            self.optimizer.step(tried)
            value = self._trial_loss()
            smooth = 0.7 * smooth + 0.3 * value
            if not math.isfinite(value) or smooth > HARM * first:
                rate = min(usual, tried / 3)
                break
        self.load(state)
        self.average.values = average
        return rate

    def _trial_loss(self) -> float:
        """The loss of fresh views, the same in all processes, with gradients for the next step."""
        value = self.backward(0.0)
        self._share_gradients()
        return self.workers.largest(value)

    @property
    def gained(self) -> bool:
        """Whether other weights than those of the start are the best."""
        return min(p.error for p in self.curve) < self.curve[0].error

    def summary(self, before: float) -> Training:
        """How the training went, for the report; ``before`` is the score of the start."""
        return Training(
            losses=dict(self.settings.losses),
            trained=self.settings.train,
            samples=len(self.fit),
            held_out=len(self.held_out),
            batch=self.settings.batch * self.workers.count,
            steps=self.steps,
            minutes=self.seconds / 60,
            gained=self.gained,
            before=before,
            curve=tuple(TrainingPoint(p.step, p.minutes, p.error) for p in self.curve),
        )

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint needs, copied."""
        return {
            "weights": {n: w.detach().clone() for n, w in self.weights.items()},
            "average": {n: v.clone() for n, v in self.average.values.items()},
            "averaged": self.average.steps,
            "best": {n: v.clone() for n, v in self.best.items()},
            "optimizer": self.optimizer.state(),
            "generators": [self.generator.get_state(), self.order.get_state()],
            "queue": list(self._queue),
            "progress": [self.steps, self.seconds, self.usual, self.rate],
            "start": dict(self.start),
            "curve": [[p.step, p.minutes, p.error] for p in self.curve],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; views that were kept are made anew."""
        self._set(state["weights"])
        for name, value in state["average"].items():
            self.average.values[name].copy_(value)
        self.average.steps = int(state["averaged"])
        self.best = {n: v.clone() for n, v in state["best"].items()}
        self.optimizer.load(state["optimizer"])
        self.generator.set_state(state["generators"][0])
        self.order.set_state(state["generators"][1])
        self._queue, self._pool = list(state["queue"]), []
        steps, self.seconds, self.usual, self.rate = state["progress"]
        self.steps = int(steps)
        self.start = dict(state["start"])
        self.curve = [Point(int(s), float(m), float(e)) for s, m, e in state["curve"]]
