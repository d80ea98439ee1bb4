"""The output of a compile: the model, its plan and its report, and for a device an engine or a script."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.build import counted_memory_mb
from edgeprune.calibration import hint_of_samples, is_fidelity
from edgeprune.compiler.assemble import layers_of, plan_of, refusals_of, sizes_of
from edgeprune.compiler.layer_details import layers_of_result, losses_taken_back
from edgeprune.compiler.offers import below_floor, check_useful
from edgeprune.compiler.outcome import predicted_energy, predicted_values
from edgeprune.compiler.pipeline import Reached
from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.timer import ORIGINAL
from edgeprune.dependency import picture
from edgeprune.devices import watts_of
from edgeprune.engine_check import engine_warnings
from edgeprune.errors import BackendError
from edgeprune.outputs import unseen
from edgeprune.passes.prune import prune_channels, verify_cut
from edgeprune.report import Budget, CompileCost, Cost, ModelFile, Prediction, Report, installed_versions, write_report
from edgeprune.search import Goal
from edgeprune.support import TEMPORARY_FILES, peak_memory_bytes

ENGINE = "model.engine"
OFF_PREDICTION = 0.10
"""The report warns if the prediction is off by more than this share."""


def values_of(session: CompileSession, reached: Reached) -> dict[str, float]:
    """What the limits hold, of a result: measured on the device where that was possible, else predicted or counted."""
    values = predicted_values(session, reached.candidate)
    counted = counted_memory_mb(session.opened, reached.model) if reached.returned != ORIGINAL else None
    values |= {} if counted is None else {"--max-memory-mb": counted}
    values["--p99"] = reached.latency_ms
    measured = (reached.timed.measured or {}).get(reached.returned)
    if measured is not None and measured.tail is not None:
        values["--p99"] = measured.tail.p99_ms
    if (result := reached.timed.results.get(reached.returned)) is not None:
        values |= {} if result.energy is None else {"--max-energy-mj": result.energy.mj}
        values |= {} if result.memory is None else {"--max-memory-mb": result.memory.mb}
    return values


def deliver(session: CompileSession, goal: Goal, reached: Reached, folder: Path) -> Report:
    """Write the result into the output folder, and return its report.

    Raises:
        BudgetError: the result lost too much to be of use, and the user does not accept that.
        ModelError: the cut changes what the model computes.
        BackendError: a builder that is installed here builds the original, but not the model; or the engine on the
            device computes something else than its graph.
    """
    opened, candidate, timed, progress = session.opened, reached.candidate, reached.timed, session.progress
    returns_original = reached.returned == ORIGINAL
    model = session.original if returns_original else reached.model
    predicted_ms, baseline_us = candidate.latency_us / 1e3, session.predicted_baseline_us(timed.latency)
    measured = reached.timer.report(timed, reached.returned)
    notes = [*session.notes, *session.proof(model)]
    lowered = session.lowered(candidate, model)
    if not returns_original:
        with progress.step("verifying the cut"):
            dense, cut, sizes = opened.dense, session.builder.cut(candidate.widths), opened.sizes.shapes
            verify_cut(dense, prune_channels(dense, opened.analysis, cut), opened.analysis, cut, sizes=sizes)
    with progress.step("writing"):
        graph.save(opened.as_file(opened.dense), folder / "dense.onnx")
        graph.save(opened.as_file(model), folder / "model.onnx")
        blocks = enumerate(session.network.blocks)
        block_us = {
            block.anchor: timed.latency.block_us(b, candidate.formats[b], candidate.widths) for b, block in blocks
        }
        whole = session.builder.float_model(candidate.widths)
        plans = layers_of(session.builder, candidate, lowered, block_us)
        plan_of(
            opened,
            session.target,
            {} if returns_original else session.builder.cut(candidate.widths),
            plans,
            baseline_ms=baseline_us / 1e3 if measured is None else measured.baseline.median_ms,
            predicted_ms=predicted_ms,
            seed=session.conditions.seed,
            tokens=session.tokens,
            stream=session.stream,
            ranks={} if returns_original else session.builder.low_rank.ranks(whole, candidate.formats),
        ).save(folder / "plan.json")
        if reached.returned in timed.results and (engine := timed.results[reached.returned].engine) is not None:
            (folder / ENGINE).write_bytes(engine)
        commands = session.write_commands(model, predicted_ms, folder)
    with progress.step("scoring the result"):
        if returns_original:
            run = OnnxRuntime(session.conditions.threads).load(opened.scored).run
            accuracy = session.evaluator.with_outputs(session.evaluator.accuracy(run), run)
        else:
            accuracy = session.scores.with_outputs(candidate, lowered)
    check_useful(session, goal, accuracy, timed.latency, candidate.latency_us, reached.timer)
    lost = below_floor(session, accuracy)
    checked = session.check(reached.returned, timed)
    if checked is not None and checked.faults and not goal.accept_loss:
        raise BackendError(f"{checked.faults[0]}; --accept-loss writes the result all the same")
    layers = layers_of_result(session.network, timed.latency, session.losses_of(candidate), candidate, plans)
    met = None if measured is None or not goal.has_budget else goal.is_met(measured.baseline, measured.result)
    if goal.limits and (measured is not None or goal.p99_ms is None):
        met = met is not False and not goal.excess(values_of(session, reached))
    warnings = [*opened.sentences(), *notes, *session.warnings(candidate, accuracy, goal)]
    warnings += [f"the result lost too much to be of use (--accept-loss): {why}" for why in lost]
    warnings += engine_warnings(checked, accuracy)
    warnings += [f"the evaluation does not see all of it: {why}" for why in unseen(accuracy)]
    warnings += hint_of_samples(accuracy)
    if not returns_original:
        refitted = graph.warnings_of(session.builder.float_model(candidate.widths))
        warnings += [text for text in refitted if text not in warnings]
    if (new := [str(v.name) for v in model.graph.outputs]) != (old := [str(v.name) for v in lowered.graph.outputs]):
        warnings.append(f"after --surgery the outputs are {', '.join(new)} instead of {', '.join(old)}")
    if is_fidelity(session.evaluator):
        warnings.append("accuracy was not measured: without --eval, agreement with the original is reported instead")
    if measured is not None and abs(off := predicted_ms / measured.result.median_ms - 1) > OFF_PREDICTION:
        warnings.append(f"the prediction of {predicted_ms:.3g} ms is off by {off:+.0%}")
    ends = {"original": timed.results.get(ORIGINAL), "result": timed.results.get(reached.returned)}
    operating = session.operating_point(timed.results.get(reached.returned))
    watts = watts_of(operating.get("power mode", ""))
    training = None if returns_original else session.training(candidate)
    reason = reached.outcome.reason if training is None else f"{reached.outcome.reason} {training.sentence}"
    report = Report(
        command="compile",
        target=session.target,
        model=ModelFile(opened.path.name, opened.sha256),
        outcome=replace(reached.outcome, reason=reason, below_floor=lost),
        budget=Budget(
            goal.latency_ms, goal.speedup, goal.max_drop, met, goal.max_energy_mj, goal.max_memory_mb, goal.p99_ms
        ),
        latency=measured,
        predicted=Prediction(
            baseline_us / 1e3,
            predicted_ms,
            reached.timer.source,
            timed.latency.error,
            timed.variants_ms(session.whole is None),
            None if watts is None else watts * predicted_ms,
            *predicted_energy(session, candidate),
        ),
        accuracy=accuracy,
        sizes=sizes_of(session.before.opened, model, folder / "model.onnx"),
        versions=installed_versions(*session.packages),
        seconds=progress.seconds,
        cost=CompileCost(
            session.expected,
            Cost(progress.used_s, peak_memory_bytes(), TEMPORARY_FILES.most_bytes),
            progress.processor_s,
        ),
        seed=session.conditions.seed,
        calibration=session.conditions.calibration,
        engine=checked,
        energy={name: end.energy for name, end in ends.items() if end is not None and end.energy is not None},
        memory={name: end.memory for name, end in ends.items() if end is not None and end.memory is not None},
        search=timed.search,
        tokens=session.tokens,
        layers=session.measured_layers(layers, model),
        operating_point=operating,
        training=training,
        losses=losses_taken_back(session, candidate) if goal.explain_loss and not returns_original else (),
        refused=refusals_of(opened.analysis),
        warnings=(*warnings, *session.device_notes(candidate, timed.results.get(reached.returned)), *commands),
    )
    write_report(folder, report, picture(opened.analysis))
    return report
