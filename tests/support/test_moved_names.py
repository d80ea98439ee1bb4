from __future__ import annotations

import sys
from importlib import import_module

import pytest

from edgeprune.support.moved_names import MOVED, keep_moved_names


@pytest.mark.parametrize("name", sorted(MOVED))
def test_an_old_name_has_the_names_of_its_room(name: str):
    sys.modules.pop(name, None)
    with pytest.warns(DeprecationWarning, match=f"import from {MOVED[name]}"):
        module = import_module(name)
    room = import_module(MOVED[name])
    assert module is not room
    public = [n for n in vars(room) if not n.startswith("_")]
    assert all(getattr(module, n) is getattr(room, n) for n in public)


def test_the_documented_import_of_a_rule_still_works():
    sys.modules.pop("edgeprune.dims", None)
    with pytest.warns(DeprecationWarning, match="edgeprune.dims is deprecated"):
        from edgeprune.dims import Rel, rule  # type: ignore[import-not-found]
    from edgeprune.dependency.dims import Rel as Current

    assert Rel is Current
    assert callable(rule)


def test_an_unknown_name_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("edgeprune.shrinker")


def test_the_finder_is_there_once():
    before = list(sys.meta_path)
    keep_moved_names()
    assert sys.meta_path == before
