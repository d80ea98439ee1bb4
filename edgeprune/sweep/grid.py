"""The grid of a sweep: a TOML file with lists of models, targets and budgets, and flags of ``edgeprune compile``.

    models = ["a.onnx", "b.onnx"]
    targets = ["cpu", "orin"]
    speedup = [1.5, 2, 3]         # or latency-ms = [...], or max-drop = [...]; several kinds are all tried
    calib = "images.npz"          # any flag of compile, for all

    [for."b.onnx"]                # flags for one model, or for one target
    calib = "photos"

Paths are relative to the folder of the file.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.compiler import Recipe, Value
from edgeprune.devices import load_profile
from edgeprune.errors import UsageError
from edgeprune.support import or_nearest

BUDGETS = ("speedup", "latency-ms", "max-drop")
_OWN = {"models", "targets", "for"}


@dataclass(frozen=True)
class Job:
    """One compile.

    Attributes:
        model: as the grid names it.
        target: name of the target.
        budget: such as ``speedup-2``; ``no-budget`` if the grid has none.
        recipe: all its flags; paths are relative to the folder of the grid.
    """

    model: str
    target: str
    budget: str
    recipe: Recipe

    @property
    def key(self) -> str:
        """Folder of its result within that of the sweep."""
        return f"{_stem(self.model)}/{self.target}/{self.budget}"

    @property
    def measures(self) -> bool:
        """Whether it times networks on the machine that runs it."""
        return self.target == "cpu" and self.device is None

    @property
    def device(self) -> str | None:
        """Address of the attached device that it measures on."""
        address = self.recipe.values.get("device")
        return None if address is None else str(address)


@dataclass(frozen=True)
class Grid:
    """All compiles of a sweep, those that measure on a machine first."""

    jobs: tuple[Job, ...]
    file: Path


def read_grid(file: Path, flags: Collection[str]) -> Grid:
    """The grid in a file.

    Args:
        file: the TOML file.
        flags: names of all flags of ``edgeprune compile``, without dashes.

    Raises:
        UsageError: it cannot be read, a key is no flag, a list is missing or empty, or two models have one name.
    """
    data = _parsed(file)
    models, targets = (_list(data, key, file) for key in ("models", "targets"))
    named = {load_profile(target).name: target for target in targets}
    special = data.get("for", {})
    if not isinstance(special, dict) or not all(isinstance(value, dict) for value in special.values()):
        raise UsageError(f"sweep {file}: [for] has one table of flags for each model or target")
    if unknown := [name for name in special if name not in (*models, *targets)]:
        near = or_nearest(unknown[0], [*models, *targets])
        raise UsageError(f"sweep {file}: [for.{unknown[0]}] names no model and no target of the sweep{near}")
    for place in (data, *special.values()):
        for key in place:
            if key.replace("_", "-") not in flags and key not in _OWN:
                raise UsageError(f"sweep {file}: {key!r} is no flag of `edgeprune compile`{or_nearest(key, flags)}")
    stems = [_stem(model) for model in models]
    if twice := [model for model, stem in zip(models, stems, strict=True) if stems.count(stem) > 1]:
        raise UsageError(f"sweep {file}: {' and '.join(twice)} would have one folder: give the files different names")
    jobs = [
        Job(model, name, budget, Recipe(_flags(data, special, model, target, name, limits), file.absolute().parent))
        for model in models
        for name, target in named.items()
        for budget, limits in _budgets(data, file)
    ]
    return Grid(tuple(sorted(jobs, key=lambda job: not job.measures)), file)


def _parsed(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return dict(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"cannot read the sweep {str(file)!r}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"sweep {file} is not TOML: it is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"sweep {file} is not TOML: {error}") from error


def _list(data: Mapping[str, Any], key: str, file: Path) -> list[str]:
    values = data.get(key)
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise UsageError(f"sweep {file}: {key} must be a list of names, such as {key} = [{_EXAMPLES[key]}]")
    return list(dict.fromkeys(values))


_EXAMPLES = {"models": '"a.onnx", "b.onnx"', "targets": '"cpu", "orin"'}


def _budgets(data: Mapping[str, Any], file: Path) -> list[tuple[str, dict[str, Value]]]:
    found: list[tuple[str, dict[str, Value]]] = []
    for key in BUDGETS:
        values = data.get(key, data.get(key.replace("-", "_"), []))
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise UsageError(f"sweep {file}: {key} must be a list of numbers, not {value!r}")
            found.append((f"{key}-{value}", {key: value}))
    return found or [("no-budget", {})]


def _flags(
    data: Mapping[str, Any],
    special: Mapping[str, Mapping[str, Any]],
    model: str,
    target: str,
    name: str,
    limits: Mapping[str, Value],
) -> dict[str, Value]:
    given: dict[str, Value] = {"model": model, "target": name}
    for place in (data, special.get(target, {}), special.get(model, {})):
        for key, value in place.items():
            flag = key.replace("_", "-")
            if key not in _OWN and flag not in BUDGETS:
                given[flag] = ",".join(map(str, value)) if _is_numbers(value) else value
    return {**given, **limits}


def _is_numbers(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, (int, float)) for item in value)


def _stem(model: str) -> str:
    return Path(model).stem
