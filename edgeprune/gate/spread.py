"""What the spread of builds and boards says beside a verdict: one build may be chance, one board may be the fault."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from edgeprune.gate.verdicts import Check
from edgeprune.report import Latency, Report

BUILDS_DIFFER = 0.04
"""How much the latencies of two builds of one network may differ, as published for FP16 at batch 1."""

BOARDS_DIFFER = 0.05
"""A board that is so much slower or faster than the median of its kind is named."""

TIMING_CACHE = "timing cache"


def spread_notes(report: Report, checks: Sequence[Check]) -> list[str]:
    """Sentences on a latency that one build decides, and on boards that stand out."""
    latency = report.latency
    if latency is None:
        return []
    notes = [f"board {board} {text}" for board, text in _odd_boards(latency).items()]
    decided = any("latency" in check.name and check.verdict in ("fail", "unsure") for check in checks)
    once = latency.builds == 1 and TIMING_CACHE not in report.operating_point
    if decided and once and latency.runtime.startswith("tensorrt"):
        notes.append(
            f"each engine was built once, and builds of one network differ by up to {BUILDS_DIFFER:.0%}: --builds 3 "
            "puts that into the interval, --timing-cache FILE keeps the choice of kernels"
        )
    return notes


def _odd_boards(latency: Latency) -> dict[str, str]:
    boards = {board: [run for run in latency.runs if run.board == board] for board in latency.boards}
    if len(boards) < 3:  # of two that differ, neither is the odd one
        return {}
    usual = {board: median(run.result.median_ms for run in runs) for board, runs in boards.items()}
    middle = median(usual.values())
    return {
        board: f"is {abs(ms / middle - 1):.0%} {'slower' if ms > middle else 'faster'} than the median of "
        f"{len(boards)} boards: look at the board before the commit"
        for board, ms in usual.items()
        if abs(ms / middle - 1) > BOARDS_DIFFER
    }
