"""Import SymPy only when onnx-ir computes a symbolic expression: SymPy would be half of the import time of ``inspect``.

onnx-ir needs SymPy for arithmetic on symbolic dimensions, which edgeprune never does; names of dimensions are strings.
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
    """Finds the modules as Python does, but executes each at the first use of one of its attributes."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec with a lazy loader; None for other modules, and if onnx-ir is not what imports SymPy."""
        if fullname not in _NAMES or not _is_being_imported("onnx_ir"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _is_being_imported(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


def defer_sympy() -> None:
    """Make later imports of onnx-ir leave SymPy out."""
    if not any(isinstance(finder, _Deferring) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Deferring())
