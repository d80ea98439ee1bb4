"""The useful part of another library's error message, as one line."""

from __future__ import annotations

_PREFIX = "[ONNXRuntimeError] : "


def first_sentence(error: BaseException) -> str:
    """The first line of the innermost cause; further lines as long as a line ends with a colon."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    count = next((n for n, line in enumerate(lines, 1) if not line.endswith(":")), len(lines))
    return " ".join(lines[:count]).removeprefix(_PREFIX).rstrip(".:")
