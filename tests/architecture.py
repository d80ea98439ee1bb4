"""The rooms of the package in layers, and who imports whom: the architecture test and its picture are made from it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "edgeprune": ROOT / "edgeprune",
    "edgeprune.passes": ROOT / "passes",
    "edgeprune.hwprofiles": ROOT / "hwprofiles",
}

ROOMS = (
    "errors",
    "support",
    "images",
    "timing",
    "hosts",
    "report",
    "gate",
    "lengths",
    "graph",
    "outputs",
    "passes.verify",
    "passes.layout",
    "passes.canonicalize",
    "passes.dequantize",
    "gradients",
    "executor",
    "devices",
    "dependency",
    "passes.tokens",
    "passes.placement",
    "passes.tensorrt",
    "passes.openvino",
    "backends",
    "calibration",
    "engine_check",
    "recovery",
    "quantization",
    "importance",
    "passes.quantize",
    "passes.x86",
    "passes.prune",
    "passes.rank",
    "passes.recover",
    "costmodel",
    "latency",
    "hwprofiles",
    "build",
    "distill",
    "search",
    "tokens",
    "ranks",
    "compiler",
    "pytorch",
    "testing",
    "sweep",
    "cli",
)
"""From the ground floor up: a room imports only from rooms before it."""

ROOTS = {"edgeprune", "edgeprune.__main__", "edgeprune.passes"}
"""Modules that stand above all rooms: the public names, ``python -m``, and the empty package of the passes."""


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = file
    return found


def room_of(module: str) -> str:
    """The room of a module; an empty text for the roots.

    Raises:
        LookupError: it is in no room.
    """
    if module in ROOTS:
        return ""
    name = module.removeprefix("edgeprune.")
    return max((room for room in ROOMS if f"{name}.".startswith(f"{room}.")), key=len)


@cache
def imported(name: str) -> frozenset[str]:
    """The modules of this package that a module imports: when it is loaded, in a function, or for types alone."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    return frozenset(other for node in ast.walk(tree) for other in _named_by(node) if other in modules())


@cache
def imported_from(name: str) -> frozenset[str]:
    """Where a module imports from, as its import statements say; ``from edgeprune import graph`` counts as the room."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module not in ROOTS:
            found.add(str(node.module))
        else:
            found |= set(_named_by(node))
    return frozenset(found & modules().keys() - ROOTS)


def _named_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in modules() else node.module


@cache
def room_imports() -> dict[str, frozenset[str]]:
    """Room -> other rooms that it imports from."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for name in modules().keys() - ROOTS:
        found[room_of(name)] |= {room_of(other) for other in imported(name) - ROOTS}
    return {room: frozenset(others - {room}) for room, others in found.items()}
