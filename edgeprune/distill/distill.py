"""``edgeprune distill``: train the weights of a deployed graph from unlabelled data, its teacher the dense model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgeprune.calibration import Calibration, CalibrationData, as_spec, outputs_of
from edgeprune.distill.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from edgeprune.distill.delivery import deliver
from edgeprune.distill.folder import CompiledFolder, read_folder
from edgeprune.distill.settings import Settings
from edgeprune.distill.stage import open_trainer
from edgeprune.distill.trainer import Point
from edgeprune.distill.workers import join_workers
from edgeprune.errors import BackendError, CalibrationError, UsageError
from edgeprune.executor import require_supported
from edgeprune.outputs import Choice
from edgeprune.report import Report
from edgeprune.support import Progress, check_output, describe_failure, load_function


def distill_folder(
    folder: str | Path,
    data: CalibrationData,
    *,
    settings: Settings | None = None,
    out: str | Path | None = None,
    force: bool = False,
    shapes: Mapping[str, Any] | None = None,
    choice: Choice | None = None,
    progress: Progress | None = None,
) -> Report | None:
    """Train the model of a folder, and write a folder like it.

    The result has the same nodes as before, with other weights; if nothing was gained on the held-out samples, with the
    same ones. An interrupted training goes on where it was when it is called again with the same arguments.

    Args:
        folder: what `compile` or `prune` wrote.
        data: samples without labels; a `CalibrationSpec`, or the value of ``--data``.
        settings: how long and how to train.
        out: folder to write; ``<folder>.distilled`` beside it by default.
        force: replace the folder if it exists.
        shapes: input name -> dimensions, for inputs with open dimensions that the data does not tell.
        choice: which outputs count, and how they are compared.
        progress: shows the progress.

    Returns:
        The report; None in a process of ``torchrun`` that is not the first.

    Raises:
        UsageError: the folder is not complete, its files do not belong together, or a setting does not fit.
        CalibrationError: data that does not fit the model, or less than four samples.
        ModelError: an operator cannot be run in PyTorch, or the loss becomes no number.
        BackendError: CUDA is asked for and not there, or memory runs out.
    """
    progress, settings = progress or Progress(), settings or Settings()
    settings.check()
    source = Path(folder)
    result = Path(out) if out is not None else source.with_name(f"{source.name.rstrip('/')}.distilled")
    check_output(result, force=force)
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise BackendError("--device cuda: PyTorch finds no CUDA GPU here")
    with progress.step("reading the folder"):
        given = read_folder(source)
        require_supported(given.dense)
        require_supported(given.model)
    samples = _opened(given, data, shapes or {}, choice or Choice())
    user = None if settings.labels is None else _user_loss(settings.labels)
    trainer = open_trainer(given, samples, settings, progress, join_workers(settings.device), user)
    if trainer.used_once:
        progress.note(f"--replays {settings.replays}: views are used once, for {trainer.used_once}")
    checkpoint = result.with_name(f"{result.name}.checkpoint")
    files = {name: source / name for name in ("dense.onnx", "model.onnx")}
    belongs = fingerprint(settings, files, samples.describe())
    saved = load_checkpoint(checkpoint, belongs)
    if saved is not None:
        trainer.load(saved["trainer"])
        progress.note(f"going on at step {trainer.steps} of {checkpoint}")
    elif checkpoint.exists():
        progress.note(f"{checkpoint} belongs to another training, or is damaged: training starts anew")
    with progress.step("training") as step:

        def report(done: float, point: Point) -> None:
            step.fraction(min(1.0, done))

        def save() -> None:
            last = trainer.curve[-1]
            if len(trainer.curve) == 2:
                weaker = f", views of strength {trainer.strength:g}" if trainer.strength < 1 else ""
                progress.note(f"peak learning rate {trainer.rate:.2g}{weaker}")
            progress.note(f"step {last.step}, {last.minutes:.1f} min: held-out error {last.error:.4g}"
                          f" ({trainer.curve[0].error:.4g} at the start)")  # fmt: skip
            if trainer.workers.is_first:
                save_checkpoint(checkpoint, {"belongs_to": belongs, "trainer": trainer.state()})

        try:
            trainer.run(report, save)
        except KeyboardInterrupt:
            if trainer.workers.is_first:
                save_checkpoint(checkpoint, {"belongs_to": belongs, "trainer": trainer.state()})
            raise
    if not trainer.workers.is_first:
        return None
    found = deliver(given, trainer, samples, result, force=force, progress=progress)
    checkpoint.unlink(missing_ok=True)
    return found


def _opened(folder: CompiledFolder, data: CalibrationData, shapes: Mapping[str, Any], choice: Choice) -> Calibration:
    """The data for the dense model, which knows its outputs."""
    spec = as_spec(data)
    assert spec is not None
    samples = spec.open(folder.dense, shapes)
    if samples.is_random:
        raise CalibrationError("random numbers teach nothing about your data: give --data images or arrays")
    if samples.items < 4:
        raise CalibrationError(f"{samples.describe()}: at least 4 samples are needed, one of them to hold out")
    return samples.judging(choice.applied_to(outputs_of(folder.dense, samples)))


def _user_loss(spec: str) -> Any:
    """The user's loss; an error in it names the function."""
    function = load_function(spec, UsageError)

    def loss(outputs: Mapping[str, Any], inputs: Mapping[str, Any], places: Any) -> Any:
        try:
            value = function(outputs, inputs, places)
        except Exception as error:
            raise UsageError(f"{spec}: {describe_failure(error)}") from error
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise UsageError(f"{spec} must return one number as a tensor, not {type(value).__name__}")
        return value.reshape(())

    return loss
