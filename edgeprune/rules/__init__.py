"""Axis-relation rules, one file an operator family.

A rule is one function that returns a :class:`edgeprune.dims.Rel` for a node. Operators that carry a length in an
attribute or a constant also have a repair, beside their rule.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache


@lru_cache(maxsize=1)
def load() -> None:
    """Import every module of this package, which registers its rules and repairs."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
