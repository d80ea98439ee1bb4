"""What a compile hands over: the result, or what is better than it, with its plan and its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune import graph
from edgeprune.build import LayerPlan
from edgeprune.calibration import Evaluator, is_fidelity
from edgeprune.compiler.assemble import describe_formats, layers_of, plan_of, refusals_of, sizes_of
from edgeprune.compiler.compiled import Compiled
from edgeprune.compiler.layer_details import layers_of_result, with_times
from edgeprune.dependency import OpenedModel, picture
from edgeprune.latency import TimingHarness
from edgeprune.report import Budget, Latency, ModelFile, Outcome, Prediction, Report, installed_versions, write_report
from edgeprune.search import Candidate, Goal
from edgeprune.support import Progress
from edgeprune.timing import ratio

NEVER_SLOWER = 1.02
"""A result must be so many times as fast as the best unpruned variant, or that variant comes back."""

OFF_PREDICTION = 0.10


@dataclass(frozen=True)
class Machine:
    """Under what conditions the run was made, for the report."""

    device: str
    runtime: str
    threads: int
    seed: int
    calibration: str


def deliver(
    opened: OpenedModel,
    target: str,
    goal: Goal,
    compiled: Compiled,
    evaluator: Evaluator,
    harness: TimingHarness,
    machine: Machine,
    folder: Path,
    progress: Progress,
) -> Report:
    """Fill the output folder with what is best, and return its report."""
    returned, outcome = decide(compiled, goal)
    model = {"original": opened.original, "result": compiled.model, **compiled.variants}[returned]
    candidate = compiled.candidate if returned == "result" else compiled.variant_choice(returned)
    measured = compiled.measured
    original, result = measured["original"], measured[returned]
    with progress.step("writing"):
        graph.save(opened.dense, folder / "dense.onnx")
        graph.save(model, folder / "model.onnx")
        plan_of(
            opened,
            target,
            compiled.builder.cut(candidate.widths),
            _layers(compiled, candidate),
            baseline_ms=original.median_ms,
            predicted_ms=candidate.latency_us / 1e3,
            seed=machine.seed,
        ).save(folder / "plan.json")
    with progress.step("scoring the result"):
        accuracy = evaluator.accuracy(harness.runtime.load(model).run)
    with progress.step("timing the layers"):
        layers = with_times(
            layers_of_result(compiled.network, compiled.latency, compiled.problem, candidate),
            compiled.network.blocks,
            opened.dense,
            opened.dense if returned == "original" else model,
            harness.trace,
        )
    report = Report(
        command="compile",
        target=target,
        model=ModelFile(opened.path.name, opened.sha256),
        outcome=outcome,
        budget=Budget(
            goal.latency_ms, goal.speedup, goal.max_drop, goal.is_met(original, result) if goal.has_budget else None
        ),
        latency=Latency(
            machine.device,
            machine.runtime,
            machine.threads,
            original,
            result,
            ratio(original, result),
            {name: measured[name] for name in compiled.variants},
        ),
        predicted=Prediction(
            compiled.baseline_us / 1e3, candidate.latency_us / 1e3, "measured", compiled.latency.error
        ),
        accuracy=accuracy,
        sizes=sizes_of(opened, model, folder / "model.onnx"),
        versions=installed_versions(),
        seconds=progress.seconds,
        seed=machine.seed,
        calibration=machine.calibration,
        search=compiled.search,
        layers=layers,
        refused=refusals_of(opened.analysis),
        warnings=_warnings(candidate.latency_us / 1e3, result.median_ms, evaluator),
    )
    write_report(folder, report, picture(opened.analysis))
    return report


def _layers(compiled: Compiled, candidate: Candidate) -> list[LayerPlan]:
    model = compiled.builder.float_model(candidate.widths)
    network, latency = compiled.network, compiled.latency
    times = {
        block.anchor: latency.block_us(b, candidate.formats[b], candidate.widths)
        for b, block in enumerate(network.blocks)
    }
    return layers_of(model, compiled.builder.int8_nodes(model, candidate.formats), times)


def _warnings(predicted_ms: float, measured_ms: float, evaluator: Evaluator) -> tuple[str, ...]:
    found = []
    if abs(predicted_ms / measured_ms - 1) > OFF_PREDICTION:
        found.append(f"the prediction of {predicted_ms:.3g} ms is off by {predicted_ms / measured_ms - 1:+.0%}")
    if is_fidelity(evaluator):
        found.append("accuracy was not measured: without --eval, agreement with the original stands in for it")
    return tuple(found)


def decide(compiled: Compiled, goal: Goal) -> tuple[str, Outcome]:
    """Which of the measured models to return: the result, unless something that was not cut is as fast."""
    measured = compiled.measured
    unpruned = ["original", *compiled.variants]
    best = min(unpruned, key=lambda name: measured[name].median_ms)
    gain = ratio(measured[best], measured["result"]).value
    cut = bool((compiled.candidate.widths < compiled.network.sizes).any())
    formats = describe_formats(compiled.candidate.formats)
    if gain >= NEVER_SLOWER or (goal.has_budget and not goal.is_met(measured["original"], measured[best])):
        kind = "compressed" if cut else "unpruned-int8"
        what = "Widths and precision were chosen together" if cut else "Nothing had to be cut"
        return "result", Outcome(
            kind, gain >= NEVER_SLOWER, f"{what}: blocks {formats}; {gain:.2f}x as fast as {_called(best)}."
        )
    reason = (
        f"Pruning does not pay here: the pruned network is {gain:.2f}x as fast as {_called(best)}, which is returned."
    )
    if not cut:
        reason = f"Nothing pays here: no variant is 2% faster than {_called(best)}, which is returned."
    return best, Outcome("original" if best == "original" else f"unpruned-{best}", False, reason)


def _called(variant: str) -> str:
    return "the original" if variant == "original" else f"the unpruned {variant} variant"
