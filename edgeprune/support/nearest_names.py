"""Names that someone may have meant by one that is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ALIKE = 0.5
"""Names that are less alike, by difflib's ratio, are no suggestion."""


def nearest_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """At most ``most`` of the known names: those that contain the name, else those spelled most alike."""
    names = list(dict.fromkeys(known))
    wanted = name.lower()
    containing = sorted((n for n in names if wanted and wanted in n.lower()), key=len)
    alike = difflib.get_close_matches(name, names, n=most, cutoff=_ALIKE) if len(containing) < most else []
    return list(dict.fromkeys([*containing, *alike]))[:most]


def or_nearest(name: str, known: Iterable[str], all_of: int = 5) -> str:
    """The end of a sentence about an unknown name: ``; the nearest are 'a' and 'b'``, or all names if they are few."""
    names = list(dict.fromkeys(known))
    near = nearest_names(name, names)
    if near:
        return f"; the nearest {'is' if len(near) == 1 else 'are'} {_listed(near)}"
    return f"; there {'is' if len(names) == 1 else 'are'} {_listed(names)}" if 0 < len(names) <= all_of else ""


def _listed(names: list[str]) -> str:
    *first, last = map(repr, names)
    return f"{', '.join(first)} and {last}" if first else last
