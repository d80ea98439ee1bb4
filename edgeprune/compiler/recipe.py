"""Recipes: every flag of ``edgeprune compile`` in one file, so that a result can be had again with one command.

A recipe is TOML with one key a flag, named as on the command line without its dashes (``latency-ms = 4``), and
``model`` for the model; values are what the command line takes. Paths in it are relative to the folder it lies in. A
``report.json`` holds the recipe it was made by, and stands for it.
"""

from __future__ import annotations

import difflib
import json
import os
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeprune.errors import UsageError

Value = str | int | float | bool | list[str]
Mover = Callable[[str, Value, Callable[[str], str]], Value]
"""Of a flag's name and value, and what to do to a path: the value with that done to the paths in it."""

RECIPE = "recipe.toml"
MODEL = "model"


@dataclass(frozen=True)
class Recipe:
    """Flags and their values.

    Attributes:
        values: flag without dashes, or ``model`` -> value.
        folder: what the paths in it are relative to.
        mover: knows which values hold paths.
    """

    values: Mapping[str, Value]
    folder: Path
    mover: Mover = field(compare=False)

    def moved_to(self, folder: Path) -> Recipe:
        """The same recipe, as it reads from another folder."""

        def place(path: str) -> str:
            return path if os.path.isabs(path) else os.path.relpath(self.folder / path, folder)

        return self._with_paths(place, folder)

    def from_here(self) -> Recipe:
        """The same recipe, as it reads from the working folder; a recipe that lies there is as it was written."""
        here = Path.cwd()
        return self if self.folder.resolve() == here else self.moved_to(here)

    def _with_paths(self, place: Callable[[str], str], folder: Path) -> Recipe:
        return Recipe({k: self.mover(k, v, place) for k, v in self.values.items()}, folder, self.mover)

    def command(self) -> str:
        """The command line of this recipe, quoted for a shell, to run in its folder."""
        words = ["edgeprune", "compile"]
        if MODEL in self.values:
            words.append(str(self.values[MODEL]))
        for name, value in self.values.items():
            if name == MODEL or value is False:
                continue
            for item in value if isinstance(value, list) else [value]:
                words += [f"--{name}"] if item is True else [f"--{name}", str(item)]
        return shlex.join(words)

    def to_toml(self, notes: Mapping[str, str] | None = None) -> str:
        """The recipe as a file, with a comment behind some lines."""
        lines = [f"{name} = {_toml(value)}" for name, value in self.values.items()]
        marks = [(notes or {}).get(name, "") for name in self.values]
        return "".join(f"{line}  # {mark}\n" if mark else f"{line}\n" for line, mark in zip(lines, marks, strict=True))


def read_recipe(file: Path, known: Collection[str], mover: Mover) -> Recipe:
    """A recipe file, or that of a report.json or of the folder that holds one.

    Args:
        file: TOML, JSON, or a folder.
        known: flags there are, and ``model``.
        mover: knows which values hold paths.

    Raises:
        UsageError: it cannot be read, or holds what is no flag.
    """
    if file.is_dir():
        file = file / "report.json"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read the recipe {str(file)!r}: {why}") from error
    data = _of_report(text, file) if file.suffix == ".json" else _of_toml(text, file)
    values = {}
    for key, value in data.items():
        name = key.replace("_", "-")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"recipe {file}: {key!r} is no flag of `edgeprune compile`{hint}")
        values[name] = _value(value, file, key)
    return Recipe(values, file.absolute().parent, mover)


def _of_toml(text: str, file: Path) -> Mapping[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe {file} is not TOML: {error}") from error
    return found


def _of_report(text: str, file: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    found = data.get("recipe") if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds no recipe: only reports of `edgeprune compile` do")
    return found


def _value(value: object, file: Path, key: str) -> Value:
    if isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return list(value)
    if isinstance(value, list) and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
        return ",".join(map(str, value))
    raise UsageError(f"recipe {file}: the value of {key!r} is neither text, nor a number, true or false, nor a list")


def _toml(value: Value) -> str:
    # JSON's strings, numbers, booleans and lists of them are TOML's, once DEL is escaped too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
