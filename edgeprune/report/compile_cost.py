"""What a compile takes, in report.json: processor time, memory, temporary files."""

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
