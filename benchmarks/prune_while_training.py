"""Structured pruning during a training, to the widths of a plan; two methods of ``benchmarks/recovery_methods.py``.

* ``movement``: units whose weights move towards zero leave (Sanh et al. 2020, "Movement Pruning"; by units as in
  Lagunas et al. 2021, "Block Pruning For Faster Transformers"), along their cubic schedule;
* ``l0``: each unit has a hard-concrete gate (Louizos et al. 2018, "Learning Sparse Neural Networks through L0
  Regularization"), pulled to the plan's widths as in Xia et al. 2024, "Sheared LLaMA".

Both train the dense network in the first half of the time, and the cut one in the second half. The widths are the
plan's, so the size and the latency are those of all other methods; which units stay is their own choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from edgeprune.calibration import Calibration
from edgeprune.dependency import Cut
from edgeprune.distill import Settings
from edgeprune.distill.folder import CompiledFolder, Networks
from edgeprune.distill.stage import open_trainer
from edgeprune.distill.trainer import Trainer
from edgeprune.distill.workers import Workers
from edgeprune.passes.prune import prune_channels
from edgeprune.support import Progress

RATE = 0.003
"""Peak learning rate of the dense network, whose error at the start is 0: it tells no rate."""
LOW, HIGH, SHARPNESS = -0.1, 1.1, 2 / 3
"""Of the hard-concrete distribution; as in its paper."""
GATE_RATE, PULL = 0.1, 3.0
"""Learning rate of the gates, and the weight of their count at the end, in units of the loss at the start."""


def train_and_prune(folder: CompiledFolder, data: Calibration, settings: Settings, kind: str) -> Trainer:
    """The trainer of the cut network, after its training."""
    usual = open_trainer(folder, data, settings, Progress(), Workers())
    part = _share(settings, 0.5)
    dense = Networks(folder.dense, folder.dense, {})
    trainer = open_trainer(dense, data, replace(part, rate=RATE, replays=0), Progress(), Workers())
    trainer.start, trainer.views = usual.start, usual.views
    chooser = {"movement": _Movement, "l0": _Gates}[kind](folder, trainer)
    trainer.run(lambda done, point: None, lambda: None)
    trained = trainer.couple.student.written({n: w.detach() for n, w in trainer.weights.items()})
    cut = chooser.cut()
    pruned = prune_channels(trained, folder.analysis, cut)
    final = open_trainer(Networks(folder.dense, pruned, folder.analysis.kept(cut)), data, part, Progress(), Workers())
    final.run(lambda done, point: None, lambda: None)
    final.steps += trainer.steps
    return final


def _share(settings: Settings, share: float) -> Settings:
    minutes = None if settings.minutes is None else settings.minutes * share
    return replace(settings, minutes=minutes, steps=None if settings.steps is None else int(settings.steps * share))


class _Units:
    """The units of the groups that the plan cuts, and the weights that they have."""

    def __init__(self, folder: CompiledFolder, trainer: Trainer) -> None:
        self.trainer, self.sizes = trainer, {g.id: g.size for g in folder.analysis.groups}
        self.wanted = {group: len(kept) for group, kept in folder.plan.cut.items()}
        self.members = {
            g.id: [(m.value, m.axis, torch.from_numpy(m.unit).long()) for m in g.members if m.value in trainer.weights]
            for g in folder.analysis.groups
            if g.id in self.wanted
        }

    def kept(self, scores: dict[str, Any], count: Callable[[str], int]) -> Cut:
        return {g: torch.sort(torch.topk(s, count(g)).indices).values.numpy() for g, s in scores.items()}


def _along(values: Any, axis: int, unit: Any, rank: int) -> Any:
    """A value for each unit, at the positions of an axis; positions without a unit have 1."""
    at = torch.where(unit >= 0, values[unit.clamp_min(0)], torch.ones(()))
    return at.reshape([-1 if a == axis else 1 for a in range(rank)])


class _Movement(_Units):
    """Scores are the sums of -weight x gradient; the units with the least leave, more and more of them."""

    def __init__(self, folder: CompiledFolder, trainer: Trainer) -> None:
        super().__init__(folder, trainer)
        self.scores = {g: torch.zeros(self.sizes[g]) for g in self.wanted}
        plain, step = trainer.backward, trainer.optimizer.step

        def backward(done: float) -> float:
            value = plain(done)
            for group, members in self.members.items():
                for name, axis, unit in members:
                    weight = trainer.weights[name]
                    if weight.grad is not None:
                        moved = -(weight.detach() * weight.grad).movedim(axis, 0).reshape(len(unit), -1).sum(1)
                        self.scores[group].index_add_(0, unit.clamp_min(0), moved * (unit >= 0))
            return value

        def stepped(rate: float) -> None:
            step(rate)
            part = min(1.0, trainer.done() / 0.8)  # the last fifth with the final units
            self._zero(lambda g: round(self.wanted[g] + (self.sizes[g] - self.wanted[g]) * (1 - part) ** 3))

        trainer.backward, trainer.optimizer.step = backward, stepped  # type: ignore[method-assign]

    def _zero(self, count: Callable[[str], int]) -> None:
        with torch.no_grad():
            for group, kept in self.kept(self.scores, count).items():
                mask = torch.zeros(self.sizes[group])
                mask[torch.from_numpy(kept)] = 1.0
                for name, axis, unit in self.members[group]:
                    weight = self.trainer.weights[name]
                    weight.mul_(_along(mask, axis, unit, weight.dim()))

    def cut(self) -> Cut:
        return self.kept(self.scores, self.wanted.__getitem__)


class _Gates(_Units):
    """The gate of a unit multiplies all of its weights; those whose gates are most often open stay."""

    def __init__(self, folder: CompiledFolder, trainer: Trainer) -> None:
        super().__init__(folder, trainer)
        module = trainer.couple.student.module
        for group in self.wanted:
            module.add_parameter(f"{group}\0gate", torch.full((self.sizes[group],), 2.5))
        named = module.named_weights
        self.logits = {group: named[f"{group}\0gate"] for group in self.wanted}
        self.noise: dict[str, Any] = {}
        self._draw()
        for name in {name for members in self.members.values() for name, _, _ in members}:
            mine = [(g, a, u) for g, members in self.members.items() for n, a, u in members if n == name]
            module.prepare(name, (name, *(f"{g}\0gate" for g, _, _ in mine)), self._gated(mine))
        adam, plain = torch.optim.Adam(self.logits.values(), GATE_RATE), trainer.backward

        def backward(done: float) -> float:
            self._draw()
            adam.zero_grad()
            value = plain(done)
            (PULL * min(1.0, 2 * done) * self._excess()).backward()
            adam.step()
            return value

        trainer.backward = backward  # type: ignore[method-assign]

    def _draw(self) -> None:
        for group, logit in self.logits.items():
            u = torch.rand(len(logit)).clamp(1e-6, 1 - 1e-6)
            self.noise[group] = torch.log(u) - torch.log(1 - u)

    def _gated(self, mine: list[tuple[str, int, Any]]) -> Callable[..., Any]:
        def run(weight: Any, *logits: Any) -> Any:
            for (group, axis, unit), logit in zip(mine, logits, strict=True):
                soft = torch.sigmoid((logit + self.noise[group]) / SHARPNESS) * (HIGH - LOW) + LOW
                weight = weight * _along(soft.clamp(0, 1), axis, unit, weight.dim())
            return weight

        return run

    def _excess(self) -> Any:
        """How many units too many or too few are expected, as a share of each group; its mean."""
        shift = SHARPNESS * torch.log(torch.tensor(-LOW / HIGH))
        counts = {g: torch.sigmoid(logit - shift).sum() for g, logit in self.logits.items()}
        return torch.stack([(c - self.wanted[g]).abs() / self.sizes[g] for g, c in counts.items()]).mean()

    def cut(self) -> Cut:
        return self.kept({g: logit.detach() for g, logit in self.logits.items()}, self.wanted.__getitem__)
