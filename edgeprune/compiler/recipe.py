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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.calibration import CalibrationSpec
from edgeprune.errors import UsageError
from edgeprune.outputs import Choice

Value = str | int | float | bool | list[str]

RECIPE = "recipe.toml"
MODEL = "model"
AGAIN = "again"
"""Folder for the result of a repeated compile, beside the first one's files."""

PATHS = frozenset({MODEL, "out", "profile", "rival", "timing-cache"})
SOURCES = {"calib": frozenset({"random"}), "eval": frozenset[str](), "surgery": frozenset({"efficient-nms"})}
"""Flag -> keywords that it takes instead of a path or ``file.py:function``, maybe with settings after a colon."""


@dataclass(frozen=True)
class Recipe:
    """Flags and their values.

    Attributes:
        values: flag without dashes, or ``model`` -> value.
        folder: the paths are relative to it.
    """

    values: Mapping[str, Value]
    folder: Path

    def moved_to(self, folder: Path) -> Recipe:
        """The same recipe with paths relative to another folder."""

        def place(path: str) -> str:
            return path if os.path.isabs(path) else os.path.relpath(self.folder / path, folder.resolve())

        return Recipe({name: _moved(name, value, place) for name, value in self.values.items()}, folder)

    def from_here(self) -> Recipe:
        """The same recipe with paths relative to the working folder; unchanged if it is in that folder."""
        here = Path.cwd()
        return self if self.folder.resolve() == here else self.moved_to(here)

    def command(self, out: str | None = None) -> str:
        """The command line of this recipe, quoted for a shell, to be run in its folder.

        Args:
            out: folder for the result; by default that of the recipe, if it has one.
        """
        values = self.values if out is None else {**self.values, "out": out}
        words = ["edgeprune", "compile"]
        if MODEL in values:
            model = str(values[MODEL])
            words.append(f"./{model}" if model.startswith("-") else model)
        for name, value in values.items():
            if name == MODEL or value is False:
                continue
            for item in value if isinstance(value, list) else [value]:
                dashed = str(item).startswith("-")
                words += [f"--{name}"] if item is True else [f"--{name}={item}"] if dashed else [f"--{name}", str(item)]
        return shlex.join(words)

    def to_toml(self, notes: Mapping[str, str] | None = None) -> str:
        """The recipe as TOML, with comments after some lines."""
        lines = [f"{name} = {_toml(value)}" for name, value in self.values.items()]
        marks = [(notes or {}).get(name, "") for name in self.values]
        return "".join(f"{line}  # {mark}\n" if mark else f"{line}\n" for line, mark in zip(lines, marks, strict=True))


_FLAGS = {
    "evaluation": "eval",
    "profile_file": "profile",
    "shapes": "shape",
    "p99_ms": "p99",
    "source": "calib",
    "limit": "calib-samples",
}
"""Argument in Python -> its flag, where it is not the same with dashes."""

_NO_FLAGS = frozenset({"force", "out", "progress", "recipe"})


def moved_source(text: str, place: Callable[[str], str], keywords: Collection[str]) -> str:
    """A source of data or a function, with ``place`` applied to its path, if it has one.

    Args:
        text: a path, ``file.py:function``, or a keyword, maybe with settings after a colon.
        place: from a path to a path.
        keywords: all that are no path.
    """
    if text.partition(":")[0] in keywords:
        return text
    path, colon, function = text.rpartition(":")
    return f"{place(path)}:{function}" if colon and path.endswith(".py") else place(text)


def _moved(name: str, value: Value, place: Callable[[str], str]) -> Value:
    if name == "calib" and isinstance(value, list):  # input name=source
        halves = [text.partition("=") for text in value]
        return [f"{n}={moved_source(source, place, SOURCES[name])}" for n, _, source in halves]
    if not isinstance(value, str):
        return value
    if name in SOURCES:
        return moved_source(value, place, SOURCES[name])
    return place(value) if name in PATHS else value


def recipe_of(arguments: Mapping[str, object]) -> Recipe:
    """The recipe of a call of `edgeprune.compile`, relative to the working folder.

    Args:
        arguments: the name of each argument -> its value.
    """
    given = {_FLAGS.get(name, name.replace("_", "-")): value for name, value in arguments.items()}
    calibration = given.pop("calibration", None)
    if isinstance(calibration, CalibrationSpec):
        given |= {_FLAGS.get(name, name.replace("_", "-")): value for name, value in vars(calibration).items()}
    choice = given.pop("choice", None)
    if isinstance(choice, Choice):
        given |= choice.flags()
    for name in ("mean", "std"):
        if isinstance(numbers := given.get(name), Sequence):
            given[name] = tuple(float(number) for number in numbers)
    values = {name: as_given(value) for name, value in given.items() if name not in _NO_FLAGS}
    return Recipe({name: value for name, value in values.items() if value is not None}, Path.cwd())


def read_recipe(file: Path, known: Collection[str]) -> Recipe:
    """The recipe in a recipe file, in a report.json, or in a folder with a report.json.

    Args:
        file: TOML, JSON, or a folder.
        known: the names of all flags, and ``model``.

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
    return Recipe(values, file.absolute().parent.resolve())


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


def as_given(value: object) -> Value | None:
    """The value of an argument as the command line takes it; None if it was not given.

    Raises:
        TypeError: no flag takes such a value.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        texts = {n: v if isinstance(v, str) else "x".join(map(str, v)) for n, v in value.items()}
        return [f"{name}={text}" for name, text in texts.items()] or None
    if isinstance(value, tuple) and all(isinstance(item, int) for item in value):
        return "x".join(map(str, value)) or None
    if isinstance(value, tuple) and all(isinstance(item, float) for item in value):
        return ",".join(map(str, value))
    if isinstance(value, tuple):
        return [str(item) for item in value]
    raise TypeError(f"no flag takes a {type(value).__name__}")


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
