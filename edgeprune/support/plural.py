"""A number with its noun, as text."""

from __future__ import annotations


def plural(number: int, noun: str, several: str | None = None) -> str:
    """Number and noun, such as ``1 thread``, ``2 threads``, or ``3 axes`` with the plural given."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"
