"""Deprecated module names: documented modules that moved into rooms can still be imported, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

MOVED = {
    "edgeprune.bench": "edgeprune.timing",
    "edgeprune.calibration_spec": "edgeprune.calibration",
    "edgeprune.dims": "edgeprune.dependency",
    "edgeprune.inspection": "edgeprune.dependency",
    "edgeprune.plan": "edgeprune.build",
    "edgeprune.pruner": "edgeprune.compiler",
    "edgeprune.repair": "edgeprune.dependency",
    "edgeprune.rules": "edgeprune.dependency.rules",
    "edgeprune.solve": "edgeprune.dependency",
    "edgeprune.targets": "edgeprune.devices",
}
"""Old module -> the room that exports its names now."""


class _Moved(MetaPathFinder, Loader):
    """Finds a moved module as an empty one that reads its attributes from the room."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """The default: an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        room = import_module(MOVED[module.__name__])
        text = f"{module.__name__} is deprecated: import from {room.__name__}"
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        module.__dict__["__getattr__"] = lambda name: getattr(room, name)


def keep_moved_names() -> None:
    """Let the old modules be imported; a second call does nothing."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
