"""Rooms in layers: a room imports only from rooms below it, and from their faces alone."""

from __future__ import annotations

import ast
import importlib.util
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture import FOLDERS, ROOMS, ROOT, ROOTS, imported, imported_from, modules, room_of

MOST_LINES = 300
FEWEST_FILES, MOST_FILES = 4, 25
FACES = sorted(f"edgeprune.{room}" for room in ROOMS if room not in ("errors", "hwprofiles"))


@pytest.mark.parametrize("name", sorted(modules().keys() - ROOTS))
def test_a_room_imports_from_faces_of_lower_rooms_alone(name: str):
    mine = room_of(name)
    others = {other: room_of(other) for other in imported(name) - ROOTS if room_of(other) != mine}
    assert {other for other, room in others.items() if ROOMS.index(room) > ROOMS.index(mine)} == set(), "upward"
    past_the_face = {o for o in imported_from(name) if room_of(o) != mine and o != f"edgeprune.{room_of(o)}"}
    assert past_the_face == set()


def test_no_circle_between_modules():
    """Of the files of a room; between rooms there is none, since imports go down."""
    faces = {*FACES, *ROOTS}
    within = {n: {o for o in imported(n) - faces if room_of(o) == room_of(n)} for n in modules().keys() - faces}
    try:
        TopologicalSorter(within).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")


def test_the_top_level_is_rooms():
    here = {path.name for path in (ROOT / "edgeprune").iterdir() if path.name != "__pycache__"}
    assert here == {"__init__.py", "__main__.py", "errors.py", "py.typed"} | {
        room for room in ROOMS if "." not in room and room not in ("errors", "hwprofiles")
    }
    assert {p.name for p in (ROOT / "passes").iterdir() if p.name != "__pycache__"} == {"__init__.py"} | {
        room.removeprefix("passes.") for room in ROOMS if room.startswith("passes.")
    }


def test_tests_mirror_the_rooms():
    """Beside those of the whole and of the examples."""
    tests = ROOT / "tests"
    folders = {".".join(file.parent.relative_to(tests).parts) for file in tests.rglob("test_*.py")}
    assert folders - {"", "examples"} <= {*ROOMS, "dependency.rules"}


@pytest.mark.parametrize("folder", sorted({file.parent for file in modules().values()} - set(FOLDERS.values())))
def test_rooms_are_neither_crowded_nor_empty(folder: Path):
    assert FEWEST_FILES <= len(list(folder.glob("*.py"))) <= MOST_FILES


@pytest.mark.parametrize("face", FACES)
def test_a_face_says_what_enters_and_leaves_and_what_the_room_may_import(face: str):
    said = ast.get_docstring(ast.parse(modules()[face].read_text(encoding="utf-8"))) or ""
    assert [line.partition(":")[0] for line in said.splitlines()[2:] if not line.startswith(" ")] == [
        "In",
        "Out",
        "May import",
    ]
    assert len(said.splitlines()) <= 10


@pytest.mark.parametrize("name", sorted(modules()))
def test_passes_and_profiles_are_imported_by_their_installed_names(name: str):
    tree = ast.parse(modules()[name].read_text(encoding="utf-8"))
    names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {other.partition(".")[0] for other in names} & {"passes", "hwprofiles"}


def test_every_module_is_where_its_name_says():
    for name, file in modules().items():
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        assert Path(spec.origin).resolve() == file.resolve()


@pytest.mark.parametrize("name", sorted(modules()))
def test_files_are_short(name: str):
    assert len(modules()[name].read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", sorted(modules()))
def test_every_module_says_what_it_is(name: str):
    assert ast.get_docstring(ast.parse(modules()[name].read_text(encoding="utf-8")))
