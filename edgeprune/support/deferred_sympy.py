"""Let onnx-ir import SymPy only when a symbolic expression is computed: SymPy is half of what ``inspect`` would import.

onnx-ir needs it for arithmetic on symbolic dimensions alone, which nothing here does; names of dimensions are strings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

_NAMES = frozenset({"sympy", "onnx_ir._symbolic_shapes"})


class _Deferring(MetaPathFinder):
    """Finds the modules as Python would, to be executed at the first use of one of their attributes."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec with a lazy loader; None for any other module, and for whoever else imports SymPy."""
        if fullname not in _NAMES or not _is_being_imported("onnx_ir"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _is_being_imported(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


def defer_sympy() -> None:
    """From now on, importing onnx-ir does not import SymPy."""
    if not any(isinstance(finder, _Deferring) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Deferring())
