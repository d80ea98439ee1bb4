"""What a part of the loss comes from; a part of `edgeprune.report.model.Report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LossPart:
    """The drop of the same result with one thing taken back: a lever everywhere, or one layer.

    Attributes:
        taken_back: such as ``all widths``, ``INT8``, the id of a group, or the name of a layer.
        kind: ``result`` (nothing is taken back), ``lever``, ``group`` or ``layer``.
        drop: of the result without it, points.
    """

    taken_back: str
    kind: str
    drop: float


HEADER = ("taken back", "points lost then", "points that it costs")


def rows(parts: Sequence[LossPart]) -> list[tuple[str, str, str]]:
    """The parts as text, the costliest first within each kind; empty if nothing was taken back."""
    whole = next((part.drop for part in parts if part.kind == "result"), None)
    if whole is None:
        return []
    kinds = ("lever", "group", "layer")
    others = sorted((p for p in parts if p.kind in kinds), key=lambda p: (kinds.index(p.kind), p.drop))
    return [
        ("nothing", f"{whole:.2f}", ""),
        *((p.taken_back, f"{p.drop:.2f}", f"{whole - p.drop:+.2f}") for p in others),
    ]
