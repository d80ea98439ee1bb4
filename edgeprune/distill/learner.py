"""One update of a student: views, losses, gradients, step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from edgeprune.distill.optimizer import Average, RelativeMuon, channel_scales, clip_gradients, orthogonal_macs
from edgeprune.distill.pairing import Couple
from edgeprune.distill.samples import Samples, ViewMaker
from edgeprune.distill.settings import INNER, Settings
from edgeprune.distill.workers import Workers
from edgeprune.errors import BackendError, ModelError
from edgeprune.executor import has_bfloat16

Tensor = Any
POOL_BYTES = 512 << 20
"""Views that are kept to be used again."""
EXACT_SHARE = 0.15
"""The last share of the work is done in float32."""
MUON_SHARE = 0.5
"""Most work of Muon, as a share of that of the pass through the student and back; other matrices get AdamW."""
USUAL = 0.9
"""Decay of the usual norm of the gradients."""
UserLoss = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Any], Tensor]


@dataclass
class _View:
    """A batch to be used again: its parts, and what the teacher gives at the ends of each."""

    parts: list[tuple[dict[str, Tensor], dict[str, Tensor]]]
    used: int = 0


@dataclass(eq=False)
class Learner:
    """Updates the student of a couple.

    Attributes:
        couple: both networks and the losses.
        fit: samples to learn from.
        held_out: samples that decide.
        settings: how.
        workers: this process and the others.
        user_loss: the user's own, of outputs, inputs and positions in the data; None without labels.
    """

    couple: Couple
    fit: Samples
    held_out: Samples
    settings: Settings
    workers: Workers
    user_loss: UserLoss | None = None

    def __post_init__(self) -> None:
        seed = self.settings.seed
        self.generator = torch.Generator().manual_seed(seed + 1000 * self.workers.rank)
        self.order = torch.Generator().manual_seed(seed)  # the same in every process
        self.weights = self.couple.student.weights
        axes = self.couple.student.axes
        self.scales = {n: channel_scales(w, axes.get(n)) for n, w in self.weights.items()}
        student = self.couple.student
        self.optimizer = RelativeMuon(
            self.weights, self.scales, self._rows(), student.masks, student.decays, self.settings.decay
        )
        self.half = self._half()
        self.average = Average(self.weights, self.settings.average)
        views = ViewMaker.of(self.fit, self.generator, geometry=self.user_loss is None)
        self.views = views if self.settings.augment else ViewMaker(None, 1, None)
        losses = self.couple.losses
        self.names = tuple(dict.fromkeys(n for _, one in losses.values() for n in one.names))
        ends = [one for name, (_, one) in losses.items() if name not in INNER]
        self.ends = tuple(dict.fromkeys(n for one in ends for n in one.names))
        self.steps, self.seconds, self.usual, self.step_seconds = 0, 0.0, 0.0, 0.0
        self.start: dict[str, float] = {}
        self._pool: list[_View] = []
        self._queue: list[int] = []

    def _half(self) -> bool:
        """Whether to compute in bfloat16: as asked; else where the processor does, and no Q/DQ rounds finer than it."""
        if self.settings.half is not None:
            return self.settings.half
        student = self.couple.student
        quantized = student.integers or any(n.op_type == "DequantizeLinear" for n in student.model.graph)
        return not quantized and has_bfloat16(student.module.device)

    @property
    def used_once(self) -> str:
        """Why no view is used again although the settings say so; empty if views are, or if nobody asked for it."""
        if not self.settings.replays:
            return ""
        if self.user_loss is not None:
            return "your loss needs the labels of new views"
        if not self.ends:
            return "only losses inside the networks are compared"
        return "" if self.couple.batchable else "the samples have no batch axis"

    def _rows(self) -> dict[str, int]:
        """Matrices that Muon updates -> the axis of their outputs: the cheap ones first, within a share of a step."""
        rows, cost = self.couple.student.rows, {}
        for name, axis in rows.items():
            weight = self.weights[name]
            cost[name] = orthogonal_macs(weight.shape[axis], weight.numel() // weight.shape[axis])
        left, chosen = MUON_SHARE * 3 * self.couple.macs * self.settings.batch * self.workers.count, {}
        for name in sorted(cost, key=cost.__getitem__) if self.settings.optimizer == "muon" else ():
            left -= cost[name]
            if left >= 0:
                chosen[name] = rows[name]
        return chosen

    def step(self, rate: float, done: float) -> float:
        """One update; returns the loss."""
        value = self.backward(done)
        if not math.isfinite(value):
            raise ModelError(f"the loss is {value} at step {self.steps + 1}: nothing was written; try a smaller --rate")
        self.couple.student.mask_gradients()
        self._share_gradients()
        norm = clip_gradients(self.weights, self.settings.clip * self.usual if self.usual else math.inf)
        self.usual = USUAL * self.usual + (1 - USUAL) * min(norm, 10 * self.usual) if self.usual else norm
        self.optimizer.step(rate)
        self.average.update()
        self.steps += 1
        return value

    def _share_gradients(self) -> None:
        """Average the gradients over all processes, which may have used other losses."""
        if self.workers.count > 1:
            for weight in self.weights.values():
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            self.workers.mean(w.grad for w in self.weights.values())

    def backward(self, done: float) -> float:
        """Compute the gradients on the next views; returns the loss."""
        half = self.half and done < 1 - EXACT_SHARE
        replays = 0 if self.used_once else self.settings.replays
        for weight in self.weights.values():
            weight.grad = None
        try:
            if replays and self.steps % (1 + replays) and self._pool:
                return self._replayed(half, done)
            return self._fresh(half, done, keep=replays > 0)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_lack_of_memory(error):
                raise
        # The failed pass is gone with its error, and with it the memory that it held.
        fits = self._micro_batch_that_fits(half, done)
        advice = f"--micro-batch {fits} fits" if fits else "not even --micro-batch 1 fits"
        raise BackendError(f"memory ran out while training: {advice}")

    def _micro_batch_that_fits(self, half: bool, done: float) -> int:
        """The largest half, quarter and so on of the micro-batch with which a pass succeeds; 0 if none does."""
        size = self.settings.micro_batch or self.settings.batch
        self._pool.clear()
        while size > 1 and self.couple.batchable:
            size //= 2
            self.settings = replace(self.settings, micro_batch=size)
            for weight in self.weights.values():
                weight.grad = None
            try:
                self._fresh(half, done, keep=False)
                return size
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_lack_of_memory(error):
                    raise
        return 0

    def _fresh(self, half: bool, done: float, *, keep: bool) -> float:
        chosen = self._next()
        batch = self.views(self._batch_of(self.fit, chosen))
        parts, total, seen = self._parts(batch), 0.0, 0
        kept: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        for part in parts:
            names = (
                self.names
                if self.user_loss is None
                else tuple(dict.fromkeys((*self.names, *self.couple.outputs.names)))
            )
            teacher, student = self._values(part, names, half=half)
            loss = self._loss(teacher, student, self.couple.losses, done)
            if self.user_loss is not None:
                size = len(next(iter(part.values())))
                where = self.fit.places[chosen[seen : seen + size]]
                seen += size
                loss = loss + self.user_loss({n: student[n] for n in self.couple.outputs.names}, part, where)
            (loss / len(parts)).backward()
            total += float(loss.detach()) / len(parts)
            if keep:
                kept.append((part, {n: teacher[n].float() for n in self.ends}))
        if keep:
            self._pool.append(_View(kept))
            each = sum(x.numel() * x.element_size() for x in batch.values())
            while len(self._pool) * each > POOL_BYTES or len(self._pool) > 100:
                self._pool.pop(0)
        return total

    def _replayed(self, half: bool, done: float) -> float:
        place = int(torch.randint(len(self._pool), (1,), generator=self.generator))
        view = self._pool[place]
        view.used += 1
        if view.used >= self.settings.replays:
            self._pool.pop(place)
        losses, total = {k: v for k, v in self.couple.losses.items() if k not in INNER}, 0.0
        for part, teacher in view.parts:
            with self._precision(half):
                student = self.couple.student.module(part, self.ends)
            loss = self._loss(teacher, student, losses, done)
            (loss / len(view.parts)).backward()
            total += float(loss.detach()) / len(view.parts)
        return total

    def _loss(self, teacher: Any, student: Any, losses: Mapping[str, Any], done: float) -> Tensor:
        total: Tensor = torch.zeros(())
        for name, (weight, one) in losses.items():
            fading = 0.05 + 0.95 * (1 - done) if name in INNER else 1.0
            total = total + weight * fading / self.start[name] * one.distance(teacher, student)
        return total

    def _next(self) -> list[int]:
        """The samples of the next step; several processes share a batch."""
        count, size = self.workers.count, self.settings.batch
        while len(self._queue) < size * count:
            self._queue += torch.randperm(len(self.fit), generator=self.order).tolist()
        whole, self._queue = self._queue[: size * count], self._queue[size * count :]
        return whole[self.workers.rank * size : (self.workers.rank + 1) * size]

    def _batch_of(self, samples: Samples, which: Sequence[int]) -> dict[str, Tensor]:
        return samples.take(which, self.couple.teacher.device)

    def _parts(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The batch in pieces that go through the networks at once."""
        size = len(next(iter(batch.values())))
        piece = min(size, self.settings.micro_batch or self.settings.batch) if self.couple.batchable else 1
        batch = {n: x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for n, x in batch.items()}
        return [{n: x[i : i + piece] for n, x in batch.items()} for i in range(0, size, piece)]

    def _values(self, batch: Mapping[str, Tensor], names: Sequence[str], *, half: bool) -> tuple[Any, Any]:
        """Values of both networks."""
        with self._precision(half):
            with torch.no_grad():
                teacher = self.couple.teacher(batch, names)
            return teacher, self.couple.student.module(batch, names)

    def _precision(self, half: bool) -> Any:
        kind = self.couple.teacher.device.type
        return torch.autocast(kind, torch.bfloat16, enabled=half)

    def _set(self, weights: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(weights[name])


def _is_lack_of_memory(error: Exception) -> bool:
    """PyTorch has a class for a GPU alone; on a processor it is a RuntimeError of its allocator."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)
