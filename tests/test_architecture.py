"""The way of a model through the house has one direction: who may import whom."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "edgeprune": ROOT / "edgeprune",
    "edgeprune.passes": ROOT / "passes",
    "edgeprune.hwprofiles": ROOT / "hwprofiles",
}

FORBIDDEN = {
    # What relates axes knows nothing of data, cost or devices.
    "edgeprune.graph": (
        "edgeprune.solve",
        "edgeprune.passes",
        "edgeprune.plan",
        "edgeprune.backends",
        "edgeprune.cost",
    ),
    "edgeprune.groups": ("edgeprune.",),
    "edgeprune.dims": ("edgeprune.solve", "edgeprune.passes", "edgeprune.plan", "edgeprune.cost"),
    "edgeprune.rules": (
        "edgeprune.solve",
        "edgeprune.passes",
        "edgeprune.plan",
        "edgeprune.calibrate",
        "edgeprune.cost",
    ),
    "edgeprune.solve": (
        "edgeprune.passes",
        "edgeprune.plan",
        "edgeprune.calibrate",
        "edgeprune.cost",
        "edgeprune.backends",
    ),
    # A pass never reads a profile: the plan already says what it must do.
    "edgeprune.passes": (
        "edgeprune.hwprofiles",
        "edgeprune.profile",
        "edgeprune.cost",
        "edgeprune.search",
        "edgeprune.compiler",
    ),
    "edgeprune.importance": ("edgeprune.hwprofiles", "edgeprune.cost", "edgeprune.search", "edgeprune.compiler"),
    "edgeprune.plan": ("edgeprune.backends", "edgeprune.search", "edgeprune.compiler", "edgeprune.report"),
    "edgeprune.search": ("edgeprune.backends", "edgeprune.compiler", "edgeprune.report"),
    "edgeprune.bench": ("edgeprune.graph", "edgeprune.backends", "edgeprune.report"),
    "edgeprune.intervals": ("edgeprune.",),
    "edgeprune.errors": ("edgeprune.",),
    "edgeprune.gate": ("edgeprune.compiler", "edgeprune.backends", "edgeprune.graph"),
    "edgeprune.report": ("edgeprune.compiler", "edgeprune.search", "edgeprune.graph", "edgeprune.cli"),
    # Only the command line knows the command line.
    "edgeprune.compiler": ("edgeprune.cli",),
    "edgeprune.backends": ("edgeprune.compiler", "edgeprune.plan", "edgeprune.search", "edgeprune.cli"),
}


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the package."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = file
    return found


@cache
def imported(name: str, *, loading: bool = False) -> frozenset[str]:
    """What a module imports when it runs, or when it is loaded; what it imports for its types alone does not count."""
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if (isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING")
        or (loading and isinstance(branch, (ast.FunctionDef, ast.AsyncFunctionDef)))
        for child in branch.body
        for node in ast.walk(child)
    }
    return frozenset(other for node in ast.walk(tree) if id(node) not in skipped for other in _named_by(node))


def _named_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in modules() else node.module


@cache
def reachable(name: str, *, loading: bool = False) -> frozenset[str]:
    """All modules of this package that using a module brings with it, or loading it alone."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        for other in imported(waiting.pop(), loading=loading):
            if other in modules() and other not in seen and other != "edgeprune":
                seen.add(other)
                waiting.append(other)
    return frozenset(seen)


def belongs(module: str, prefix: str) -> bool:
    return module.startswith(prefix) if prefix.endswith(".") else module == prefix or module.startswith(f"{prefix}.")


@pytest.mark.parametrize("part", sorted(FORBIDDEN))
def test_no_back_edges(part: str):
    mine = [name for name in modules() if belongs(name, part)]
    assert mine, f"{part} is gone: remove its entry"
    wrong = {
        f"{name} -> {other}"
        for name in mine
        for other in reachable(name)
        for forbidden in FORBIDDEN[part]
        if belongs(other, forbidden) and not belongs(other, part)
    }
    assert not wrong


def test_no_import_cycles():
    """No module needs, to load, one that needs it to load; registries load what registers with them on first use."""
    cycles = {
        f"{name} and {other} import each other"
        for name in modules()
        for other in reachable(name, loading=True)
        if name < other and name in reachable(other, loading=True)
    }
    assert not cycles


@pytest.mark.parametrize("name", sorted(modules()))
def test_passes_and_profiles_are_imported_by_their_installed_names(name: str):
    assert not {other.partition(".")[0] for other in imported(name)} & {"passes", "hwprofiles"}


def test_every_module_is_where_its_name_says():
    for name, file in modules().items():
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).resolve() == file.resolve()


@pytest.mark.parametrize("name", sorted(modules()))
def test_files_are_short(name: str):
    assert len(modules()[name].read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_module_says_what_it_is(name: str):
    assert ast.get_docstring(ast.parse(modules()[name].read_text(encoding="utf-8")))
