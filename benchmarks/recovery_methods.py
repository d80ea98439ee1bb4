"""Ways to train a cut network, under equal conditions: the accuracy of each after the same minutes.

    python benchmarks/recovery_methods.py DIR CALIB EVAL [--minutes 3 | --steps 60] [--methods all norms ...]

DIR is what ``edgeprune compile`` or ``prune`` wrote; CALIB and EVAL are those of ``edgeprune compile``. Every method
starts from the same weights and sees the same data, but ``movement`` and ``l0``, which start from the dense network and
find the plan's number of units themselves (``benchmarks/prune_while_training.py``). On a busy machine ``--steps`` is
fairer than ``--minutes``. Prints a Markdown table: the held-out output error before and after, the steps, the score. A
loss that finds nothing to compare in the network is named in its row: ``attention`` is ``kd`` alone in a CNN. Methods
that are no setting of ``edgeprune distill`` are written here:

* ``soup``: the mean of the weights of three runs of a third of the time (Wortsman et al. 2022, "Model soups");
* ``sam``: every gradient is taken at the worst place nearby, relative to the sizes of the channels (Kwon et al. 2021,
  "ASAM"; Bair et al. 2024, "AdaSAP"); a step takes twice the time. With ``--steps``, it gets
  half of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from prune_while_training import train_and_prune

from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import Calibration, Evaluation, open_calibration, open_evaluation, outputs_of
from edgeprune.distill import Settings
from edgeprune.distill.folder import CompiledFolder, read_folder
from edgeprune.distill.stage import open_trainer
from edgeprune.distill.trainer import Trainer
from edgeprune.distill.workers import Workers
from edgeprune.support import Progress

KD = {"kd": 1.0, "output": 0.5}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("all weights, kd + output + feature, Muon", {}),
    "adamw": ("the same by AdamW", {"optimizer": "adamw"}),
    "norms": ("biases and normalizations (PERP)", {"train": "norms"}),
    "lora": ("products of small matrices, merged (PERP)", {"train": "lora", "optimizer": "adamw"}),
    "kd": ("class scores and outputs alone (Hinton; BCKD and LD for detectors)", {"losses": KD}),
    "minitron": ("outputs and all inner layers alike (Minitron)", {"losses": {**KD, "feature": 1.0}}),
    "cwd": ("channels as distributions (CWD)", {"losses": {**KD, "cwd": 0.5}}),
    "attention": ("attention maps (TinyBERT)", {"losses": {**KD, "attention": 0.5}}),
    "logit-standard": ("standardized class scores", {"losses": {"logit-standard": 1.0, "output": 0.5, "feature": 0.5}}),
    "plain": ("no views", {"augment": False}),
    "float32": ("no bfloat16", {"half": False}),
    "fresh": ("no view is used again", {"replays": 0}),
    "soup": ("mean of three runs of a third of the time (soups)", {}),
    "sam": ("the worst place nearby (ASAM, AdaSAP)", {}),
    "movement": ("units leave by their movement (Movement and Block Pruning)", {}),
    "l0": ("units leave by gates (L0, CoFi, Sheared LLaMA)", {}),
}
RUNS = {"soup": 3}
"""Trainings of a method that share the time."""
RADIUS = 0.02
"""Distance of the worst place, as a share of the size of every channel."""


@dataclass(frozen=True)
class Row:
    """One method on one network."""

    network: str
    method: str
    before: float
    after: float
    steps: int
    processor_s: float
    score: float
    compares_nothing: tuple[str, ...]

    def __str__(self) -> str:
        """A line of the table."""
        idle = f" ({', '.join(self.compares_nothing)}: compares nothing here)" if self.compares_nothing else ""
        what, error = f"{METHODS[self.method][0]}{idle}", f"{self.before:.4g} -> {self.after:.4g}"
        return f"| {what} | {error} | {self.steps} | {self.processor_s:.0f} | {self.score:.2f} |"


def main() -> None:
    """Print the table."""
    arguments = _arguments()
    folder = read_folder(arguments.folder)
    data = open_calibration(arguments.calib, folder.dense)
    data = data.judging(outputs_of(folder.dense, data))
    evaluation = open_evaluation(arguments.evaluation, folder.dense)
    dense, start = (_score(evaluation, model) for model in (folder.dense, folder.model))
    print(f"{arguments.folder.name}: {evaluation.metric}, original {dense:.2f}, start {start:.2f}; {data.describe()}\n")
    print(f"| method | held-out error | steps | processor s | {evaluation.metric} |\n|---|---|---|---|---|", flush=True)
    rows = []
    for name in arguments.methods:
        row = _row(name, folder, data, evaluation, arguments)
        print(row, flush=True)
        rows.append(row)
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(r) for r in rows], indent=1))


def _row(
    name: str, folder: CompiledFolder, data: Calibration, evaluation: Evaluation, limits: argparse.Namespace
) -> Row:
    begun = time.process_time()
    minutes = None if limits.steps else limits.minutes / RUNS.get(name, 1)
    steps = limits.steps // (2 if name == "sam" else RUNS.get(name, 1)) if limits.steps else None
    settings = replace(Settings(minutes=minutes, steps=steps), **METHODS[name][1])
    runs = [replace(settings, seed=seed) for seed in range(RUNS.get(name, 1))]
    if name in ("movement", "l0"):
        trainers, runs = [train_and_prune(folder, data, settings, name)], []
    else:
        trainers = [open_trainer(folder, data, each, Progress(), Workers()) for each in runs]
    for trainer in trainers if runs else ():
        if name == "sam":
            trainer.backward = _sharpness_aware(trainer)  # type: ignore[method-assign]
        trainer.run(lambda done, point: None, lambda: None)
    first = trainers[0]
    weights = {n: torch.stack([t.best[n] for t in trainers]).mean(0) for n in first.best}
    return Row(
        folder.path.name,
        name,
        first.curve[0].error,
        first.held_out_error(weights),
        sum(trainer.steps for trainer in trainers),
        time.process_time() - begun,
        _score(evaluation, first.couple.student.written(weights)),
        tuple(loss for loss in settings.losses if loss not in first.couple.losses),
    )


def _sharpness_aware(trainer: Trainer) -> Callable[[float], float]:
    """Gradients at the worst place nearby, on the same views."""
    plain = trainer.backward

    def backward(done: float) -> float:
        views = trainer.generator.get_state(), trainer.order.get_state(), list(trainer._queue), list(trainer._pool)
        plain(done)
        weights: Mapping[str, Any] = trainer.weights
        gradients = {n: w.grad * trainer.scales[n] for n, w in weights.items() if w.grad is not None}
        norm = float(torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()) or 1.0
        count = sum(g.numel() for g in gradients.values()) ** 0.5
        moved = {n: RADIUS * count / norm * trainer.scales[n] * g for n, g in gradients.items()}
        _add(weights, moved, 1.0)
        trainer.generator.set_state(views[0])
        trainer.order.set_state(views[1])
        trainer._queue, trainer._pool = views[2], views[3]
        value = plain(done)
        _add(weights, moved, -1.0)
        return value

    return backward


def _add(weights: Mapping[str, Any], changes: Mapping[str, Any], factor: float) -> None:
    with torch.no_grad():
        for name, change in changes.items():
            weights[name].add_(change, alpha=factor)


def _score(evaluation: Evaluation, model: ir.Model) -> float:
    return evaluation.score(OnnxRuntime().load(model).run).value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("calib")
    parser.add_argument("evaluation")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
