"""What the pages on the code say is so: files and functions that they name exist, and the rooms are in order."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.architecture import ROOMS, ROOT

PAGES = [ROOT / "docs" / "architecture.md", ROOT / "docs" / "glossary.md", ROOT / "CONTRIBUTING.md"]
PATH = re.compile(r"`((?:edgeprune|passes|hwprofiles|tests|docs|benchmarks|examples|\.ci)/[\w./-]*)`")
NAME_IN_FILE = re.compile(r"`([A-Za-z_][\w.]*)`\s+\(\s*`([\w/]+\.py)`\)")


@cache
def defined(file: Path) -> frozenset[str]:
    """Functions, classes, constants, and methods and fields by ``Class.name``, that a file defines."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        found |= _names(node)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for inner in node.body for name in _names(inner)}
    return frozenset(found)


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path):
    named = PATH.findall(page.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_functions_are_in_the_files_that_are_named(page: Path):
    named = [(name, ROOT / path) for name, path in NAME_IN_FILE.findall(page.read_text(encoding="utf-8"))]
    assert [(name, str(file)) for name, file in named if not file.is_file() or name not in defined(file)] == []


def test_the_page_has_every_room_in_order():
    page = PAGES[0].read_text(encoding="utf-8")
    assert re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE) == list(ROOMS)
