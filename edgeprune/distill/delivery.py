"""The folder of a distillation: the trained model, and the report with what it gained."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends import OnnxRuntime, open_runtime, simulation
from edgeprune.calibration import Calibration, compare_with_original, fidelity
from edgeprune.dependency import picture
from edgeprune.devices import load_profile
from edgeprune.distill.folder import CompiledFolder
from edgeprune.distill.trainer import Trainer
from edgeprune.report import Latency, Report, installed_versions, write_report
from edgeprune.support import Progress, output_folder
from edgeprune.timing import benchmark, ratio

MEASURED_SECONDS = 10.0
NO_TARGET = "none"
"""As a prune without ``--target`` says."""
STALE = ("model.engine",)
"""Files of the folder that have the old weights."""
WORSE = "the held-out samples themselves agree less with the original than before the training"
STALE_WARNINGS = (
    WORSE,
    "accuracy was not measured",
    "on the device the engine loses",
    "the rival ",
    "agreement and speed-up are",
)
"""What the warnings say that is about the old weights."""
NOT_AS_IT_CAME = (
    "agreement and speed-up are against dense.onnx, the teacher, from which {left} have left: not against the model as "
    "it came"
)


def deliver(
    folder: CompiledFolder, trainer: Trainer, data: Calibration, out: Path, *, force: bool, progress: Progress
) -> Report:
    """Write the folder of a distillation, and return its report.

    The model that is written is run on the held-out samples once more, as a file; the old weights stay where they are
    not worse.
    """
    _, held_out = data.split(trainer.settings.held_out, trainer.settings.seed)
    model = trainer.couple.student.written(trainer.best) if trainer.gained else folder.model
    with progress.step("comparing with the original"):
        agreement = fidelity(OnnxRuntime().load(folder.dense).run, held_out, folder.dense)
        # A graph for TensorRT is simulated: onnxruntime would quantize its biases, and leave out roundings to FP16.
        load = OnnxRuntime().load if _is_for_cpu(folder) else simulation.load
        before, after = (compare_with_original(agreement, load(m).run) for m in (folder.model, model))
    training = trainer.summary(before.after)
    with progress.step("measuring"):
        latency = _latency(folder, model)
    warnings = [w for w in folder.report.warnings if not any(text in w for text in STALE_WARNINGS)]
    stale = [name for name in STALE if (folder.path / name).exists()]
    warnings += [f"{name} has the weights from before the training and was left out: build it anew" for name in stale]
    if (rival := folder.report.rival) is not None and latency is not None:
        warnings.append(rival.sentence(latency.result.median_ms, after))
    if left := "tokens" if folder.plan.tokens else "channels of the residual stream" if folder.plan.embedding else "":
        warnings.append(NOT_AS_IT_CAME.format(left=left))
    # Their views decide as well. A difference within the scatter of the samples says nothing.
    if trainer.gained and after.drop_interval is not None and after.drop_interval[0] > before.drop:
        lost = f"{before.drop:.2f} points were lost, and now {after.drop:.2f}"
        warnings.append(f"{WORSE} ({lost}): keep {folder.path}, or try a --rate below {trainer.rate:.2g}")
    warnings.append("accuracy was not measured: agreement with the original on held-out data is reported instead")
    with output_folder(out, force=force) as fresh:
        for name in ("dense.onnx", "dense.onnx.data", "plan.json"):
            if (folder.path / name).exists():
                shutil.copy2(folder.path / name, fresh / name)
        graph.save(model, fresh / "model.onnx")
        report = replace(
            folder.report,
            outcome=replace(folder.report.outcome, reason=f"{folder.report.outcome.reason} {training.sentence}"),
            latency=latency,
            engine=None,
            accuracy=after,
            sizes=replace(folder.report.sizes, result=replace(
                folder.report.sizes.result, file_bytes=_bytes(fresh / "model.onnx"))),
            versions=installed_versions(),
            seconds={**folder.report.seconds, **progress.seconds},
            calibration=data.describe(),
            training=training,
            warnings=tuple(dict.fromkeys(warnings)),
        )  # fmt: skip
        write_report(fresh, report, picture(folder.analysis))
    return report


def _is_for_cpu(folder: CompiledFolder) -> bool:
    """Whether the folder's model runs on a CPU; one of a `prune` without a target does, too."""
    target = folder.report.target
    return target == NO_TARGET or load_profile(target).runtime(None).on_cpu


def _bytes(file: Path) -> int:
    data = file.with_name(file.name + ".data")
    return file.stat().st_size + (data.stat().st_size if data.exists() else 0)


def _latency(folder: CompiledFolder, model: ir.Model) -> Latency | None:
    """The latency measured anew where it was measured on this machine's processor; None where it was not measured."""
    old = folder.report.latency
    if old is None or not _is_for_cpu(folder):
        return None
    backend = open_runtime(old.runtime.split()[0], old.threads or 1)
    runners = {"original": backend.load(folder.dense), "result": backend.load(model)}
    shapes = {str(v.name): [d if isinstance(d, int) else 1 for d in v.shape or ()] for v in folder.dense.graph.inputs}
    candidates = {n: r.bind(r.random_feeds(shapes=shapes)) for n, r in runners.items()}
    times = benchmark(candidates, min_seconds=1.0, max_seconds=MEASURED_SECONDS)
    name = f"{backend.name} {backend.version}"
    speedup = ratio(times["original"], times["result"])
    return Latency(backend.device, name, old.threads, times["original"], times["result"], speedup)
