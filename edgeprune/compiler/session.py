"""A compile session: everything about a model on a target that does not depend on the budget."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir

from edgeprune.backends import DeviceResult
from edgeprune.build import ModelBuilder
from edgeprune.calibration import ArrayCache, Evaluator
from edgeprune.compiler.request import Conditions
from edgeprune.compiler.timer import Timed, Timer
from edgeprune.dependency import OpenedModel
from edgeprune.latency import INT8, Format, Latency, Network
from edgeprune.report import Accuracy, Cost, EngineCheck, Layer, Tokens, Training
from edgeprune.search import (
    Candidate,
    FormatLosses,
    Goal,
    JointTrial,
    Levels,
    Problem,
    Raced,
    ScoreCache,
    WidthLosses,
    all_int8,
    best_unpruned,
    uncut,
)
from edgeprune.support import Progress

SHORT, SHORT_TRAININGS = 0.1, 2
"""Share of the minutes of a training that tells what it recovers, and how many candidates get one."""
LEARNABLE = 3.0
"""Learned weights are tried if the drop exceeds the limit by at most this factor."""


class Prices:
    """The search problem with its losses, which are computed when they are first needed.

    Args:
        latency: predicts the latency of any candidate.
        levels: per group, its possible widths.
        formats: computes the losses of all formats except 2:4, and those of all formats that may be chosen.
        widths: ranks units, and computes the losses of the levels.
        twins: blocks that must have the same format.
        tied: groups that must have the same level.
    """

    def __init__(
        self,
        latency: Latency,
        levels: Levels,
        formats: Callable[[], tuple[FormatLosses, FormatLosses]],
        widths: Callable[[], WidthLosses],
        twins: tuple[tuple[int, ...], ...] = (),
        tied: tuple[tuple[int, ...], ...] = (),
    ):
        self.latency, self._twins, self._tied = latency, twins, tied
        self._levels, self._formats, self._widths = levels, functools.cache(formats), functools.cache(widths)

    @property
    def dense(self) -> Problem:
        """Dense widths in all formats except 2:4, for the unpruned variants."""
        return uncut(self._levels, self._formats()[0], self.latency, self._twins)

    @property
    def uncut(self) -> Problem:
        """Dense widths in all formats."""
        return replace(self.dense, format_loss=self._formats()[1])

    @property
    def all(self) -> Problem:
        """All widths in all formats."""
        levels, losses = self._widths()
        return replace(self.uncut, levels=levels, width_loss=losses, tied=self._tied)


@dataclass(frozen=True, eq=False, kw_only=True)
class CompileSession(ABC):
    """A model that was opened and priced for a target, ready for any number of budgets.

    Attributes:
        opened: the model.
        target: name of the target.
        network: its blocks, on a GPU its kernels.
        builder: builds the models of candidates.
        prices: the search problem.
        evaluator: scores models.
        scores: scores candidates, each once.
        cache: statistics that outlive the process.
        conditions: for the report.
        progress: shows the progress.
        notes: sentences for the report.
        expected: the cost of the compile, as it was announced.
        raced: unpruned candidates whose latency was measured, the fastest first.
        tokens: which tokens left before the model was opened, and why; None if it has no attention.
        stream: channels of the residual stream, and those that stay, if it was narrowed before.
        whole: the session of the model as it came, if tokens or such channels left.
    """

    block_name: ClassVar[str]
    """The word for blocks of the network in messages."""
    learns_to_accept: ClassVar[bool]
    """Whether weights are learned before a candidate is refused for its drop."""
    as_asked: ClassVar[bool]
    """Whether a precision that was asked for without a budget is returned even if another one is faster."""

    opened: OpenedModel
    target: str
    network: Network
    builder: ModelBuilder
    prices: Prices
    evaluator: Evaluator
    scores: ScoreCache
    cache: ArrayCache
    conditions: Conditions
    progress: Progress
    expected: Cost
    notes: tuple[str, ...] = ()
    raced: tuple[Raced, ...] = ()
    tokens: Tokens | None = None
    stream: tuple[int, int] | None = None
    whole: CompileSession | None = None
    _variants: dict[float, dict[str, Candidate]] = field(default_factory=dict, repr=False)  # copies share all three
    _left: list[float] = field(default_factory=list, repr=False)
    _before: dict[Hashable, float] = field(default_factory=dict, repr=False)

    @property
    def latency(self) -> Latency:
        """The latency model, before a measurement of whole networks corrects it."""
        return self.prices.latency

    @property
    def floating(self) -> Format:
        """The float format of its blocks."""
        return self.builder.float_format

    @property
    def before(self) -> CompileSession:
        """The session of the model as it came, maybe this one."""
        return self.whole or self

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that determine the result besides those of every compile; the report has their versions."""
        return ()

    @property
    def original(self) -> ir.Model:
        """The user's model in a form that the target runs."""
        return self.opened.original

    @abstractmethod
    def timer(self, goal: Goal) -> Timer:
        """Measures or predicts candidates for a goal.

        Raises:
            BudgetError: no candidate can meet the goal, regardless of its loss; the text gives the lowest latency.
        """

    @abstractmethod
    def predicted_baseline_us(self, latency: Latency) -> float:
        """Predicted latency of the original, microseconds."""

    @property
    def open_trial(self) -> Callable[[], JointTrial] | None:
        """Prepares trials of whole candidates when it is called; None if the target has none."""
        return None

    def variant_model(self, candidate: Candidate) -> ir.Model:
        """The model of an unpruned variant, as it is delivered."""
        return self.finish(self.builder.build(candidate.widths, candidate.formats))

    def finish(self, model: ir.Model) -> ir.Model:
        """A built model as it is delivered: after surgery, if the user asked for it."""
        return model

    def only_lowered(self, best: Candidate, goal: Goal) -> Candidate:
        """The result if nothing may be cut: the best unpruned variant, unless one format was asked for."""
        return all_int8(self.prices.dense, best) if goal.all_int8 else best

    def variants(self, limit: float) -> dict[str, Candidate]:
        """The unpruned network in float, and in INT8 if that loses at most ``limit`` points."""
        if limit not in self._variants:
            sizes, names = self.latency.sizes, (self.floating,) * len(self.network.blocks)
            found = {self.floating: Candidate(sizes, names, self.latency.total_us(sizes, names), 0.0)}
            with self.progress.step("finding the best unpruned variant"):
                int8 = best_unpruned(self.prices.dense, lambda c: self.scores.is_within(c, limit), self.raced)
                found |= {} if int8 is None else {INT8: int8}
            self._variants[limit] = found
        return self._variants[limit]

    def is_cut(self, candidate: Candidate) -> bool:
        """Whether a candidate removes anything."""
        return candidate.removes(self.latency.sizes)

    def losses_of(self, candidate: Candidate) -> Problem:
        """The problem with the losses of a candidate; widths are not priced for one that cuts nothing."""
        return self.prices.all if (candidate.widths < self.latency.sizes).any() else self.prices.uncut

    def is_acceptable(self, candidate: Candidate, limit: float) -> bool:
        """Whether a candidate loses at most ``limit`` points, with learned weights if these may be enough."""
        drop = self.scores.drop(candidate)
        if drop > limit and self.builder.learning.train is not None:
            return drop * self._share_left(candidate, drop) <= limit
        if drop <= limit or drop > LEARNABLE * limit or not self.learns_to_accept:
            return drop <= limit
        if not self.builder.recover(candidate.widths, candidate.formats, self.progress):
            return False
        return self.evaluator.drop(self.scores.run_of(self.builder.build(candidate.widths, candidate.formats))) <= limit

    def _share_left(self, candidate: Candidate, drop: float) -> float:
        """The share of a drop that training is expected to leave: that of short trainings of the first candidates.

        As in Tang et al. 2025, "DarwinLM: Evolutionary Structured Pruning of Large Language Models".
        """
        if len(self._left) < SHORT_TRAININGS:
            with self.progress.step("trying a short training"):
                found = self.builder.train(candidate.widths, candidate.formats, SHORT)
                after = drop if found is None else self.evaluator.drop(self.scores.run_of(found.model))
            self._left.append(max(after, 0.0) / drop)
        return sum(self._left) / len(self._left)

    def keeps(self, candidate: Candidate, limit: float) -> bool:
        """Whether a candidate that was accepted for what training may recover loses so little after it."""
        if self.builder.learning.train is None or (drop := self.scores.drop(candidate)) <= limit:
            return True
        after = self.evaluator.drop(self.scores.run_of(self.recovered(candidate)))
        if after > limit:  # expect no more from others than this one gained
            self._left[:] = [after / drop] * SHORT_TRAININGS
        return after <= limit

    def training(self, candidate: Candidate) -> Training | None:
        """How the weights of a candidate were trained; None if they were not."""
        found = self.builder.after_training.get(candidate.key)
        return None if found is None else replace(found.training, before=self._before[candidate.key])

    def recovered(self, candidate: Candidate, limit: float = math.inf) -> ir.Model:
        """The model of a candidate, with weights learned from the dense network where they are better.

        Weights of a candidate that cuts nothing are only trained in INT8, and only if training was asked for.
        Learned weights with which the result would be refused are taken back if it would not be without them: budgets
        are offered for candidates as they were built. ``limit`` is the most points that it may lose.
        """
        trains = self.builder.learning.train is not None
        if self.is_cut(candidate) or (trains and any(INT8 in f for f in candidate.formats)):
            if trains and candidate.key not in self._before:
                self._before[candidate.key] = self.scores.accuracy(candidate).after
            with self.progress.step("recovering accuracy"):
                if self.builder.recover(candidate.widths, candidate.formats, self.progress):
                    self.scores.judge_learned(candidate, limit)
        with self.progress.step("building the result"):
            return self.builder.build(candidate.widths, candidate.formats)

    def lowered(self, candidate: Candidate, model: ir.Model) -> ir.Model:
        """The delivered model of a candidate as it was before surgery."""
        return model

    def proof(self, model: ir.Model) -> list[str]:
        """Notes from building the delivered model with a builder on this machine, if there is one for the target.

        Raises:
            BackendError: it builds the original, but not the model.
        """
        return []

    def check(self, returned: str, timed: Timed) -> EngineCheck | None:
        """What the engine of the returned model computes on its device, if there is one."""
        return None

    def write_commands(self, model: ir.Model, predicted_ms: float, folder: Path) -> list[str]:
        """Write a script that measures the model on its device into the output folder; returns notes on its use."""
        return []

    def warnings(self, candidate: Candidate, accuracy: Accuracy, goal: Goal) -> list[str]:
        """Warnings about a delivered candidate on this target."""
        return []

    def device_notes(self, candidate: Candidate, result: DeviceResult | None) -> list[str]:
        """Notes about the measurement on a device."""
        return []

    def operating_point(self, result: DeviceResult | None) -> dict[str, str]:
        """How the device was set for the measurement, or is for the prediction."""
        return {}

    def measured_layers(self, layers: tuple[Layer, ...], model: ir.Model) -> tuple[Layer, ...]:
        """The layers of a delivered model, with measured latencies if the target has a profiler."""
        return layers
