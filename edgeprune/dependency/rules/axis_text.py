"""Text of relations for operators of any rank."""

from __future__ import annotations

from collections.abc import Mapping


def axes(rank: int, special: Mapping[int, str] | None = None, prefix: str = "a") -> str:
    """A term of ``rank`` axes ``a0 a1 ...``, with some replaced: ``axes(3, {1: "!c"})`` is ``a0 !c a2``."""
    chosen = special or {}
    return " ".join(chosen.get(k, f"{prefix}{k}") for k in range(rank))
