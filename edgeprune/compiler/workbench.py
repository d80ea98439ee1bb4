"""The workbench of a compile for a CPU: all that is known of a model, and what a choice of it takes and loses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from edgeprune.build import Builder
from edgeprune.calibration import ArrayCache, Calibration, Evaluator
from edgeprune.compiler.compiled import Compiled
from edgeprune.dependency import OpenedModel
from edgeprune.importance import Context, rankings_of
from edgeprune.latency import Format, Latency, Network, TimingHarness, lowered, measured_latency, network
from edgeprune.recovery import Moments, Probe
from edgeprune.report import Search
from edgeprune.search import (
    Candidate,
    ClosedLoop,
    Goal,
    JointTrial,
    Problem,
    Refined,
    ScoreCache,
    StartingPoint,
    Timing,
    best_unpruned,
    fastest_unpruned,
    noise,
    open_joint_trial,
    price,
    race_formats,
    race_of,
    refine,
    solve_around,
    typical_ranges,
)
from edgeprune.support import Progress
from edgeprune.timing import Measurement, ratio

TRIAL_SAMPLE_MACS, TRIAL_SAMPLES = 24e9, (24, 256)
"""Whole choices are tried on as many samples as this much work allows, within these bounds: more than single ones are,
since there are fewer of them."""
LEARNABLE = 3.0
"""Learning may make up for what a choice loses beyond the limit, up to so many times the limit."""
TRIAL_MACS, TRIALS = 1e12, (8, 32)
"""As many whole choices are tried as this much work allows, within these bounds."""


@dataclass(frozen=True, eq=False)
class Workbench:
    """All that is known of a model and does not depend on the budget.

    Attributes:
        network: its blocks.
        builder: turns choices into models.
        problem: what there is to choose from, and what every choice is predicted to take and to lose.
        unpruned: the best choice that cuts nothing and uses integers; None if float is all there is.
        variants: models that cut nothing, by name.
        formats: the formats of these.
        ranges: of activations, to time integers with.
        harness: where models are timed.
        evaluator: what scores them.
        progress: told what is going on.
        shared: covariances that were gathered so far, by node.
        scores: scores choices.
    """

    network: Network
    builder: Builder
    problem: Problem
    unpruned: Candidate | None
    variants: dict[str, ir.Model]
    formats: dict[str, tuple[Format, ...]]
    ranges: dict[str, tuple[float, float]]
    harness: TimingHarness
    evaluator: Evaluator
    progress: Progress
    shared: dict[str, Moments]
    scores: ScoreCache

    def drop(self, candidate: Candidate) -> float:
        """Points that a choice loses, as built."""
        return self.scores.drop(candidate)

    def is_acceptable(self, candidate: Candidate, limit: float) -> bool:
        """Whether a choice loses at most so many points, with learned weights where these might help it to."""
        drop = self.drop(candidate)
        if drop <= limit or drop > LEARNABLE * limit:
            return drop <= limit
        if not self.builder.recover(candidate.widths, candidate.formats, self.progress):
            return False
        learned = self.builder.build(candidate.widths, candidate.formats)
        return self.evaluator.drop(self.harness.runtime.load(learned).run) <= limit

    def stand_in(self, candidate: Candidate) -> ir.Model:
        """A network of these widths and formats that only serves timing."""
        return lowered(self.network, candidate.widths, candidate.formats, self.ranges)

    def built(self, candidate: Candidate) -> ir.Model:
        """The network itself: refitted, rounded, with ranges that were chosen well."""
        with self.progress.step("building the result"):
            return self.builder.build(candidate.widths, candidate.formats)

    def timing(self, candidate: Candidate, *, relative: bool = True) -> Timing:
        """Time of a network of these widths and formats, beside the same others as in the final measurement.

        Args:
            candidate: the widths and formats.
            relative: whether it counts against the original's.
        """
        integers = {name: variant for name, variant in self.variants.items() if name != "fp32"}
        return concluded(self.harness.quick({"result": self.stand_in(candidate), **integers}), relative=relative)

    @cached_property
    def trial(self) -> JointTrial:
        """Tries whole choices; made when it is first needed."""
        net, builder = self.network, self.builder
        with self.progress.step("preparing trials"):
            samples = int(np.clip(TRIAL_SAMPLE_MACS / max(net.macs, 1), *TRIAL_SAMPLES))
            probe = Probe(net.model, builder.data, samples, builder.threads)
            context = Context(net.model, net.analysis.groups, builder.data, shared=self.shared)
            made = open_joint_trial(context, net.analysis, builder, probe, self.ranges)
            self.shared.clear()
            return made

    def starting_point(self) -> StartingPoint:
        """The best network that cuts nothing, and what it takes just now."""
        candidate = fastest_unpruned(self.problem) if self.unpruned is None else self.unpruned
        with self.progress.step("searching and measuring"):
            return StartingPoint(candidate, self.timing(candidate))

    def refined(self, loop: ClosedLoop) -> tuple[Refined, Search | None]:
        """Factors for the losses and a choice within the budget that loses little, by trying whole choices.

        Where nothing is lost nothing is tried.
        """
        with self.progress.step("searching and measuring"):
            candidate, within_us = loop.approach()
        problem = loop.problem
        if candidate.loss <= 0:
            factors = np.ones(len(problem.levels) + len(problem.format_loss))
            return Refined(problem, factors, candidate, 0.0, 0.0, 0), None
        with self.progress.step("solving around the choice"):
            solved = solve_around(problem, candidate, within_us)
        trial = self.trial
        samples = trial.probe.items
        trials = int(np.clip(TRIAL_MACS / max(self.network.macs * samples, 1), *TRIALS))
        with self.progress.step("trying whole choices") as step:
            found = refine(
                problem,
                solved.candidate,
                within_us,
                trial.error,
                trials=trials,
                progress=step.fraction,
                searcher=loop.searcher,
            )
        return found, Search(found.trials, samples, found.first_error, found.error, solved.gap)

    def result(
        self,
        candidate: Candidate,
        latency: Latency,
        search: Search | None = None,
        model: ir.Model | None = None,
        goal: Goal | None = None,
    ) -> Compiled:
        """Build a choice, unless its model is given, and measure it; longer where a goal may be missed by chance."""
        model = self.built(candidate) if model is None else model

        def undecided(found: Mapping[str, Measurement]) -> bool:
            return goal is not None and goal.is_missed_by_chance(found["original"], found["result"])

        with self.progress.step("measuring the result") as step:
            measured = self.harness.final({"result": model, **self.variants}, step.fraction, undecided)
        return Compiled(
            model,
            candidate,
            self.network,
            self.builder,
            latency,
            self.problem,
            measured,
            self.variants,
            self.formats,
            search,
        )


def concluded(found: Mapping[str, Measurement], *, relative: bool) -> Timing:
    """What a measurement of the original, the result and perhaps the unpruned integer variant says of the result."""
    mine, anchor = found["result"], found.get("int8")
    measured_us, speedup = mine.median_ms * 1e3, ratio(found["original"], mine)
    baseline_us = measured_us * speedup.value
    if anchor is not None:
        slower = ratio(anchor, mine)
        anchor_us = measured_us * slower.value
        return Timing(baseline_us, measured_us, noise(slower.ci_low, slower.ci_high), anchor_us)
    interval = (speedup.ci_low, speedup.ci_high) if relative else (mine.ci_low_ms, mine.ci_high_ms)
    return Timing(baseline_us, measured_us, noise(*interval))


def prepare(
    opened: OpenedModel,
    goal: Goal,
    data: Calibration,
    harness: TimingHarness,
    evaluator: Evaluator,
    known: ArrayCache,
    *,
    threads: int,
    weight_bits: int,
    seed: int,
    progress: Progress,
) -> Workbench:
    """Measure the blocks, rank the units, price the choices, and find the best variant that cuts nothing.

    Of the goal only what may be done counts here, not the budget.
    """
    net = network(opened.dense, opened.analysis, opened.fixed)
    latency = measured_latency(net, harness, quantizable=goal.quantize, seed=seed, progress=progress)
    shared: dict[str, Moments] = {}
    with progress.step("ranking units"):
        rankings = rankings_of(opened, data, known, seed, shared) if goal.prune else {}
    builder = Builder(opened.dense, net, rankings, data, weight_bits, threads)
    problem = price(
        opened.dense,
        net,
        rankings,
        data,
        builder,
        latency,
        prunable=goal.prune,
        threads=threads,
        progress=progress,
        known=known,
        shared=shared,
    )
    scores = ScoreCache(known, builder, evaluator, harness)
    unpruned, ranges = None, {}
    if goal.quantize:
        ranges = typical_ranges(opened.dense, net, data, builder, known)
        with progress.step("racing formats"):
            problem, raced = race_formats(problem, latency, race_of(net, ranges, harness, known))
        with progress.step("finding the best unpruned variant"):
            unpruned = best_unpruned(problem, scores.drop, goal.drop_limit, raced)
    variants, formats = {"fp32": builder.build(net.sizes, _floats(net))}, {"fp32": tuple(_floats(net))}
    if unpruned is not None:
        variants["int8"], formats["int8"] = scores.model(unpruned), unpruned.formats
    return Workbench(
        net, builder, problem, unpruned, variants, formats, ranges, harness, evaluator, progress, shared, scores
    )


def _floats(net: Network) -> list[str]:
    return ["fp32"] * len(net.blocks)
