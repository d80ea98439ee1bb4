"""What a compile took, and how a training went, as report.json stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a compile takes: processor seconds of all cores together, the most memory, and the most temporary files."""

    processor_s: float
    memory_bytes: int
    temporary_bytes: int


@dataclass(frozen=True)
class CompileCost:
    """What a compile was expected to take, what it took, and the processor seconds of each step."""

    expected: Cost | None
    used: Cost
    processor_s: Mapping[str, float]


@dataclass(frozen=True)
class TrainingPoint:
    """The held-out output error after so many steps and minutes; see `edgeprune.recovery.output_error`."""

    step: int
    minutes: float
    error: float


@dataclass(frozen=True)
class Training:
    """How the weights of the result were trained by ``distill``.

    Attributes:
        losses: Name -> weight.
        trained: Which weights: ``all``, ``norms`` or ``lora``.
        samples: Samples that were learned from.
        held_out: Samples that decided.
        batch: Samples between two updates.
        steps: Updates.
        minutes: Time of the training.
        gained: Whether the result is better than before on the held-out samples; else its weights are the old ones.
        before: Score of the result before the training, as ``after`` of the report's accuracy.
        curve: Held-out errors, the first before any step.
    """

    losses: Mapping[str, float]
    trained: str
    samples: int
    held_out: int
    batch: int
    steps: int
    minutes: float
    gained: bool
    before: float
    curve: tuple[TrainingPoint, ...]

    @property
    def sentence(self) -> str:
        """What it changed."""
        first, last = self.curve[0].error, min(point.error for point in self.curve)
        if not self.gained:
            return f"Training for {self.steps} steps gained nothing on held-out samples: the weights stay."
        return f"Its weights were trained for {self.steps} steps: held-out output error {first:.3g} to {last:.3g}."
