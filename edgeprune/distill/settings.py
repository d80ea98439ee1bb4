"""What a distillation is asked for, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeprune.errors import UsageError

LOSS_NAMES = ("kd", "output", "feature", "cwd", "attention", "logit-standard")
INNER = ("feature", "cwd", "attention")
"""Losses at inner values: they guide at first, and fade out, since a smaller network need not agree inside."""
DEFAULT_LOSSES: Mapping[str, float] = {"kd": 1.0, "output": 0.5, "feature": 0.5}
DEFAULT_MINUTES = 30.0


@dataclass(frozen=True)
class Settings:
    """How long, with which losses and how fast to train.

    Attributes:
        minutes, steps, epochs: how long, by the first that is reached; without any, `DEFAULT_MINUTES`.
        losses: name -> weight; every loss is divided by its value at the start.
        optimizer: ``muon`` for matrices and AdamW for other weights, or ``adamw`` for all.
        train: which weights: ``all``, ``norms`` (normalization and biases: Zimmer et al. 2023, "PERP"), or ``lora``
            (Hu et al. 2022), whose products are added to the weights afterwards.
        qat: train through the Q/DQ of the model; without it, weights behind Q/DQ stay.
        scales: whether those of quantized activations are learned, too (LSQ), or stay.
        labels: the user's loss, ``file.py:function``.
        batch: samples between two updates.
        micro_batch: samples that go through the networks at once; by default all of a batch.
        rate: peak learning rate, relative to the size of each channel; by default found by a short trial.
        rank: of the matrices of ``lora``.
        temperature: of softened classes.
        augment: whether images are varied.
        replays: how often a view is used again, with the losses at the ends of the network alone.
        average: decay of the average of the weights.
        clip: largest norm of the gradients, as a multiple of their usual norm.
        decay: weight decay, relative to the learning rate.
        half: bfloat16 for convolutions and products, but for the last share of the work; by default where the processor
            computes in it and the model has no Q/DQ.
        held_out: share of the samples that decide.
        device: ``cpu`` or ``cuda``.
        seed: of all random numbers.
    """

    minutes: float | None = None
    steps: int | None = None
    epochs: int | None = None
    losses: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_LOSSES))
    optimizer: Literal["muon", "adamw"] = "muon"
    train: Literal["all", "norms", "lora"] = "all"
    qat: bool = True
    scales: Literal["fixed", "learned"] = "fixed"
    labels: str | None = None
    batch: int = 32
    micro_batch: int | None = None
    rate: float | None = None
    rank: int = 8
    temperature: float = 1.0
    augment: bool = True
    replays: int = 1
    average: float = 0.998
    clip: float = 4.0
    decay: float = 0.01
    half: bool | None = None
    held_out: float = 0.125
    device: str = "cpu"
    seed: int = 0

    def check(self) -> None:
        """Check the settings.

        Raises:
            UsageError: one of them is out of range; the text names its flag.
        """
        for name, value in (("minutes", self.minutes), ("steps", self.steps), ("epochs", self.epochs)):
            if value is not None and value <= 0:
                raise UsageError(f"--{name} must be positive, not {value:g}")
        if unknown := [name for name in self.losses if name not in LOSS_NAMES]:
            raise UsageError(f"--loss {unknown[0]} is not known; known are {', '.join(LOSS_NAMES)}")
        if self.scales == "learned" and not self.qat:
            raise UsageError("--scales learned needs the Q/DQ of the model: leave out --no-qat")
        if not self.losses and self.labels is None:
            raise UsageError("--loss none needs --labels: without a loss nothing can be learned")
        if self.batch < 1 or (self.micro_batch is not None and self.micro_batch < 1):
            raise UsageError("--batch and --micro-batch must be at least 1")
        if self.rate is not None and not 0 < self.rate < 1:
            raise UsageError(f"--rate must lie between 0 and 1, not {self.rate:g}")

    @property
    def limits(self) -> tuple[float | None, int | None, int | None]:
        """Minutes, steps and epochs; the default minutes if none is given."""
        if self.minutes is None and self.steps is None and self.epochs is None:
            return DEFAULT_MINUTES, None, None
        return self.minutes, self.steps, self.epochs


def parse_losses(text: str) -> dict[str, float]:
    """Losses as ``--loss`` gives them: ``kd``, or ``kd:1,feature:0.5``; ``none`` for no loss but the labels'.

    Raises:
        UsageError: a weight is not a positive number.
    """
    found: dict[str, float] = {}
    if text == "none":
        return found
    for part in text.split(","):
        name, _, weight = part.strip().partition(":")
        try:
            found[name] = float(weight) if weight else 1.0
        except ValueError:
            found[name] = -1.0
        if not found[name] > 0:
            raise UsageError(f"--loss {part.strip()}: the weight must be a positive number, as in kd:1,feature:0.5")
    return found
