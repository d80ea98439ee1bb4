"""``edgeprune prune``: remove a share of every group, or what costs least within a size, without regard to latency."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.build import X86Builder
from edgeprune.calibration import (
    ArrayCache,
    Calibration,
    CalibrationData,
    as_spec,
    compare_with_original,
    fidelity,
    hint_of_samples,
    identity_of,
    outputs_of,
    statistics_on,
)
from edgeprune.compiler.assemble import float_layers, plan_of, refusals_of, sizes_of
from edgeprune.compiler.opening import open_with_data
from edgeprune.dependency import Cut, OpenedModel, Shapes, TiedWidths, picture
from edgeprune.devices import load_profile
from edgeprune.errors import BudgetError, CalibrationError, ModelError, UsageError
from edgeprune.importance import Context, LateRankings, choose, find_criterion, rank
from edgeprune.latency import FLOAT, SizeLimit, SizeModel, head_widths, network, size_model, with_tied
from edgeprune.outputs import Choice
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.dequantize import float_source
from edgeprune.passes.prune import prune_channels, verify_cut
from edgeprune.passes.recover import compensate as refit
from edgeprune.recovery import Probe
from edgeprune.report import Accuracy, ModelFile, Outcome, Report, installed_versions, write_report
from edgeprune.search import Candidate, Pricer, Problem, Searcher, levels_of, open_joint_trial, refine
from edgeprune.support import Progress, check_output, output_folder

COMMON_STEP = 8
"""Widths are multiples of this if no target is given: no target has a smaller step."""
BISECTIONS, TIGHTER = 10, 0.99
"""Steps towards the weights of both sizes, and the factor of their sum when one of them is too large."""
TRIALS, TRIAL_SAMPLES = 16, 64
"""Whole networks that are tried, and the samples for each."""


def prune_model(
    model: str | Path,
    ratio: float | None = None,
    *,
    size: SizeLimit | None = None,
    criterion: str | None = None,
    calibration: CalibrationData | None = None,
    compensate: bool = True,
    out: str | Path | None = None,
    target: str | None = None,
    shapes: Shapes | None = None,
    allow_statistic: bool = False,
    force: bool = False,
    seed: int = 0,
    choice: Choice | None = None,
    progress: Progress | None = None,
    stats_device: str = "cpu",
) -> Report:
    """Remove some of a model's channels and heads, and write the folder of a prune.

    Args:
        model: the ONNX file.
        ratio: share of every group's units to remove, 0 to 1.
        size: instead of a ratio: remove the units that change the outputs least, until the network is so small.
        criterion: that ranks units; by default ``obs`` with calibration data, else ``l2``.
        calibration: needed by most criteria and by ``compensate``; a `CalibrationSpec`, or the value of ``--calib``.
        compensate: refit the remaining weights to make up for the removed units.
        out: folder to write; ``<model>.pruned`` in the working folder by default.
        target: align widths to this device's steps, and sizes of heads to its fused attention.
        shapes: input name -> dimensions, for inputs with dynamic dimensions.
        allow_statistic: also cut axes over which a normalization computes its statistics.
        force: replace the folder if it exists.
        seed: of all random numbers.
        choice: which outputs count, and how they are compared.
        progress: shows the progress.
        stats_device: what computes the statistics: ``cpu``, ``torch`` or ``cuda``.

    Raises:
        CalibrationError: data is missing or does not fit the model.
        ModelError: the model is invalid, or nothing in it can be cut.
        UsageError: the folder exists, or flags contradict each other.
        BudgetError: no widths make the network so small; the text gives the smallest size.
        BackendError: the statistics' device is not there.
    """
    progress = progress or Progress()
    model, calibration = Path(model), as_spec(calibration)
    out = Path(out or f"{model.stem}.pruned")
    _check(ratio, size, criterion, calibration)
    check_output(out, force=force)
    if compensate and calibration is None:
        raise CalibrationError("compensating needs calibration data: give --calib, or --no-compensate")
    with statistics_on(stats_device, progress.note):
        opened, data = open_with_data(
            model, shapes or {}, calibration, progress, allow_statistic=allow_statistic, as_it_is=True
        )
        data, held_out = _judged(opened, data, seed, choice or Choice())
        name = criterion or ("obs" if data is not None else "l2")
        step = load_profile(target).channel_step("fp32") if target else COMMON_STEP
        tied = _tied(opened, target)
        if size is not None and data is not None:
            cut = _cut_to_size(opened, data, size, step, tied, seed, progress)
        else:
            with progress.step(f"ranking by {name}"):
                ranking = rank(name, opened.dense, opened.analysis, data, step)
                cut = choose(opened.analysis, ranking, ratio or 0.0, step, tied)
        pruned = prune_channels(opened.dense, opened.analysis, cut)
        if cut:
            with progress.step("verifying the cut"):
                verify_cut(
                    opened.dense, pruned, opened.analysis, cut, values=not allow_statistic, sizes=opened.sizes.shapes
                )
        if compensate and data is not None and cut:
            with progress.step("refitting what stays"):
                pruned = refit(opened.dense, pruned, opened.analysis, cut, data)
    with output_folder(out, force=force) as folder:
        with progress.step("writing"):
            graph.save(opened.as_file(opened.dense, inside=True), folder / "dense.onnx")
            graph.save(written := opened.as_file(pruned, inside=True), folder / "model.onnx")
            plan_of(opened, target or "none", cut, float_layers(pruned), seed=seed).save(folder / "plan.json")
        with progress.step("comparing with the original"):
            accuracy = _fidelity(opened, written, held_out)
        report = Report(
            command="prune",
            target=target or "none",
            model=ModelFile(model.name, opened.sha256),
            outcome=_outcome(len(cut), len(opened.analysis.groups), ratio),
            sizes=sizes_of(opened, pruned, folder / "model.onnx"),
            versions=installed_versions(),
            seconds=progress.seconds,
            seed=seed,
            accuracy=accuracy,
            calibration=None if data is None else data.describe(),
            refused=refusals_of(opened.analysis),
            warnings=(
                *dict.fromkeys((*opened.sentences(), *graph.warnings_of(pruned))),
                *(() if accuracy is None else hint_of_samples(accuracy)),
            ),
        )
        write_report(folder, report, picture(opened.analysis))
    return report


def _tied(opened: OpenedModel, target: str | None) -> tuple[TiedWidths, ...]:
    """The head sizes of attentions that one kernel of the target computes; all of them stay whole if none is known."""
    if target is None or (profile := load_profile(target)).runtime().on_cpu:
        return ()
    try:
        return head_widths(canonicalize(opened.fixed, verify=False), opened.analysis, profile.device())
    except ModelError as error:
        graph.add_warning(opened.dense, f"dimensions of heads stay: {error}")
        groups = enumerate(opened.analysis.groups)
        return tuple(TiedWidths((i,), np.array([[g.size]])) for i, g in groups if g.kind == "dim")


def _check(ratio: float | None, size: SizeLimit | None, criterion: str | None, calibration: object) -> None:
    if (ratio is None) == (size is None):
        raise UsageError("give --ratio, or the size of the result: --macs, --parameters or both")
    if criterion is not None:
        find_criterion(criterion)  # before all work: whether there is one
    if size is None:
        return
    for flag, share in (("--macs", size.macs), ("--parameters", size.parameters)):
        if share is not None and not 0 < share <= 1:
            raise UsageError(f"{flag} {share:g}: expected a share of the original, above 0 and at most 1")
    if calibration is None:
        raise CalibrationError(
            "what each width costs is seen on calibration data: give --calib with --macs, --parameters"
        )
    if criterion not in (None, "obs"):
        raise UsageError(
            f"--criterion {criterion} ranks for --ratio; widths for --macs and --parameters are ranked by obs"
        )


def _cut_to_size(
    opened: OpenedModel,
    data: Calibration,
    size: SizeLimit,
    step: int,
    tied: tuple[TiedWidths, ...],
    seed: int,
    progress: Progress,
) -> Cut:
    """The units that stay in the network of this size whose outputs change least."""
    cache = ArrayCache(identity_of(opened, data, "sizes"))
    net = network(opened.dense, opened.analysis, opened.fixed)
    rankings = LateRankings(opened, data, cache, seed, progress)
    builder = X86Builder(opened.dense, net, rankings, data)
    least = [size.smallest * g.size for g in opened.analysis.groups]
    levels = tuple(
        v[((v >= low) & (v % min(step, v[-1]) == 0)) | (v == v[-1])]
        for v, low in zip(levels_of(net), least, strict=True)
    )
    levels = with_tied(levels, tied)
    levels, losses = Pricer(opened.dense, net, rankings, data, builder, 1, progress, cache, cache).widths(levels)
    model = size_model(opened.fixed, opened.analysis)
    problem = Problem(
        model, levels, losses, tuple({FLOAT: 0.0} for _ in model.blocks), (), tuple(one.groups for one in tied)
    )
    with progress.step("choosing widths"):
        problem, found, budget = widths_within(problem, model, size)
    if not 0 < found.loss < np.inf:
        return builder.cut(found.widths)
    with progress.step("preparing trials"):
        context, probe = (
            Context(opened.dense, opened.analysis.groups, data),
            Probe(opened.dense, data, TRIAL_SAMPLES, 1),
        )
        trial = open_joint_trial(context, opened.analysis, builder, probe, {})

    def error(candidate: Candidate) -> float:
        in_float = replace(candidate, formats=(FLOAT,) * len(net.blocks))
        return trial.error(in_float) if size.holds(model.shares(candidate.widths)) else math.inf

    with progress.step("trying whole candidates") as shown:
        refined = refine(problem, found, budget, error, trials=TRIALS, seed=seed, progress=shown.fraction)
    return builder.cut(refined.candidate.widths)


def widths_within(problem: Problem, model: SizeModel, size: SizeLimit) -> tuple[Problem, Candidate, float]:
    """The widths of least loss whose size is within both limits, and the problem and the budget that they solve.

    A search has one limit: of a weighted sum of both sizes. The weights are found by bisection (Lagrangian relaxation).

    Raises:
        BudgetError: the smallest widths are larger; the text gives their size.
    """
    most = np.array([size.macs or 1.0, size.parameters or 1.0])
    smallest = np.array([v[0] for v in problem.levels], np.int64)
    for flag, limit, share in zip(("--macs", "--parameters"), most, model.shares(smallest), strict=True):
        if share > limit:
            raise BudgetError(
                f"{flag} {limit:g} cannot be reached: the smallest widths have {share:.3f} of the original's"
            )
    low, high, best = 0.0, 1.0, (problem, Candidate(smallest, (), 0.0, math.inf), 0.0)
    share = 1.0 if size.parameters is None else 0.0 if size.macs is None else 0.5
    for _ in range(BISECTIONS):
        weighted = replace(problem, latency=replace(model, share=share))
        searcher, budget = Searcher(weighted), 1e6 * float(share * most[0] + (1 - share) * most[1])
        budget = max(budget, searcher.fastest().latency_us)
        first = sizes = np.array(model.shares((found := searcher.search(budget)).widths))
        while not size.holds(sizes.tolist()) and budget * TIGHTER > searcher.fastest().latency_us:
            budget *= min(TIGHTER, float((most / sizes).min()) ** 0.5)
            budget = max(budget, searcher.fastest().latency_us)
            sizes = np.array(model.shares((found := searcher.search(budget)).widths))
        if size.holds(sizes.tolist()):
            best = min(best, (weighted, found, budget), key=lambda one: one[1].loss)
        if size.parameters is None or size.macs is None:
            break
        low, high = (share, high) if first[0] / most[0] > first[1] / most[1] else (low, share)
        share = (low + high) / 2
    return best


def _judged(
    opened: OpenedModel, data: Calibration | None, seed: int, choice: Choice
) -> tuple[Calibration | None, Calibration | None]:
    """Calibration data that knows the outputs, and the held-out part of it; a single sample cannot be divided."""
    if data is None:
        if choice.metrics or choice.weights:
            raise CalibrationError("--outputs and --fidelity compare outputs on calibration data: give --calib")
        return None, None
    data = data.judging(choice.applied_to(outputs_of(opened.dense, data)))
    return data.split(seed=seed) if data.items >= 2 else (data, None)


def _fidelity(opened: OpenedModel, pruned: ir.Model, held_out: Calibration | None) -> Accuracy | None:
    if held_out is None:
        return None

    runtime, runs = OnnxRuntime(), pruned
    reference = runtime.load(opened.scored if opened.ranges or opened.reference else opened.dense).run
    if opened.reference is not None:
        runs = float_source(pruned, verify=False).reference or pruned
    return compare_with_original(fidelity(reference, held_out, opened.dense), runtime.load(runs).run)


def _outcome(cut: int, groups: int, ratio: float | None) -> Outcome:
    if not groups:
        return Outcome("original", True, "Nothing was removed: no channels or heads can be; `inspect` tells why.")
    if not cut and ratio is None:
        return Outcome("original", True, "Nothing was removed: the original is within the size.")
    if not cut:
        return Outcome(
            "original", True, f"Nothing was removed: none of {groups} groups can lose {ratio:.0%} of its units."
        )
    return Outcome("compressed", True, f"Units were removed from {cut} of {groups} groups; latency was not measured.")
