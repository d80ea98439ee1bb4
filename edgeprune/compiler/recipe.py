"""Recipes: all flags of ``edgeprune compile`` in one file, so that one command reproduces a result.

A recipe is a TOML file with one key for each flag, named as on the command line without its dashes (``latency-ms =
4``), and ``model`` for the model. Values are as on the command line. Paths are relative to the folder of the recipe. A
``report.json`` has the recipe of its run, and can be used instead.
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
"""(Name of a flag, its value, a function of paths) -> the value with the function applied to the paths in it."""

RECIPE = "recipe.toml"
MODEL = "model"


@dataclass(frozen=True)
class Recipe:
    """Flags and their values.

    Attributes:
        values: flag without dashes, or ``model`` -> value.
        folder: the paths are relative to it.
        mover: knows which values have paths.
    """

    values: Mapping[str, Value]
    folder: Path
    mover: Mover = field(compare=False)

    def moved_to(self, folder: Path) -> Recipe:
        """The same recipe with paths relative to another folder."""

        def place(path: str) -> str:
            return path if os.path.isabs(path) else os.path.relpath(self.folder / path, folder)

        return self._with_paths(place, folder)

    def from_here(self) -> Recipe:
        """The same recipe with paths relative to the working folder; unchanged if it is in that folder."""
        here = Path.cwd()
        return self if self.folder.resolve() == here else self.moved_to(here)

    def _with_paths(self, place: Callable[[str], str], folder: Path) -> Recipe:
        return Recipe({k: self.mover(k, v, place) for k, v in self.values.items()}, folder, self.mover)

    def command(self) -> str:
        """The command line of this recipe, quoted for a shell, to be run in its folder."""
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
        """The recipe as TOML, with comments after some lines."""
        lines = [f"{name} = {_toml(value)}" for name, value in self.values.items()]
        marks = [(notes or {}).get(name, "") for name in self.values]
        return "".join(f"{line}  # {mark}\n" if mark else f"{line}\n" for line, mark in zip(lines, marks, strict=True))


def read_recipe(file: Path, known: Collection[str], mover: Mover) -> Recipe:
    """The recipe in a recipe file, in a report.json, or in a folder with a report.json.

    Args:
        file: TOML, JSON, or a folder.
        known: the names of all flags, and ``model``.
        mover: knows which values have paths.

    Raises:
        UsageError: it cannot be read, or has a key that is not a flag.
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
    # Strings, numbers, booleans and lists are the same in JSON and TOML, except that TOML escapes DEL too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
