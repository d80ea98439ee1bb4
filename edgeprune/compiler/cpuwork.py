"""A model opened for compiling on this CPU: all that does not depend on the budget, ready for any number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeprune.calibration import ArrayCache, CalibrationSpec, identity_of, open_evaluator
from edgeprune.compiler.compile_cpu import reach
from edgeprune.compiler.delivery import Machine, deliver
from edgeprune.compiler.workbench import Workbench, prepare
from edgeprune.dependency import OpenedModel, open_model
from edgeprune.latency import open_harness, open_remote_harness
from edgeprune.passes.quantize import equalize
from edgeprune.report import Report
from edgeprune.search import Goal
from edgeprune.support import Progress, int8_weight_bits

HOLDOUT_FRACTION = 0.125
TARGET = "cpu"


@dataclass(frozen=True, eq=False)
class CpuWork:
    """A job with its workbench, and the conditions of the run for the report."""

    opened: OpenedModel
    bench: Workbench
    machine: Machine

    def compile(self, goal: Goal, folder: Path, progress: Progress) -> Report:
        """Reach a goal and fill the folder with the result.

        Raises:
            BudgetError: the goal can't be met; the text says what can.
        """
        compiled = reach(self.bench, goal)
        bench = self.bench
        return deliver(
            self.opened, TARGET, goal, compiled, bench.evaluator, bench.harness, self.machine, folder, progress
        )


def open_cpu(
    model: Path,
    goal: Goal,
    calibration: CalibrationSpec,
    evaluation: str | None,
    shapes: Mapping[str, Sequence[int]],
    threads: int,
    seed: int,
    progress: Progress,
    device: str | None = None,
) -> CpuWork:
    """Read a model and its data, measure its blocks, rank its units and price its choices.

    Of the goal only what may be done counts here, not the budget. ``device`` is where the CPU is, if it is not this
    one: times are then taken there, and scores here.

    Raises:
        BackendError: the device cannot be reached, or has no onnxruntime.
        ModelError: the model is invalid or cannot be worked on.
        CalibrationError, EvaluationError: data does not fit.
    """
    opened = open_model(model, shapes, progress)
    data = calibration.open(opened.fixed if calibration.source == "random" and shapes else opened.dense)
    fit, held_out = data.split(HOLDOUT_FRACTION, seed)
    if goal.quantize:
        with progress.step("equalizing channels"):
            opened = replace(opened, dense=equalize(opened.dense, fit, threads=threads))
    harness = open_harness(opened, data, shapes, threads)
    if device is not None:
        harness = open_remote_harness(opened, harness.feeds, device, threads)
    runtime = harness.runtime
    with progress.step("scoring the original"):
        evaluator = open_evaluator(evaluation, opened, runtime.load(model).run, held_out)
    with progress.step("looking up what is known"):
        known = ArrayCache(identity_of(opened, fit, f"{runtime.device}, {threads} threads"))
    bench = prepare(
        opened,
        goal,
        fit,
        harness,
        evaluator,
        known,
        threads=threads,
        weight_bits=int8_weight_bits(harness.features),
        seed=seed,
        progress=progress,
    )
    machine = Machine(harness.device, harness.runtime_version, threads, seed, data.describe())
    return CpuWork(opened, bench, machine)
