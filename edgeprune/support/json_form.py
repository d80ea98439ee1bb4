"""Frozen dataclasses to JSON and back, checked field by field; errors name the place in the file.

The dataclasses *are* the format: their fields are the keys. A field may be bool, int, float, str, a literal, a
dataclass, ``tuple[X, ...]``, ``Mapping[str, X]``, ``X | None``, or ``object`` for any JSON. A field with a default may
be missing. A key that no field declares is skipped, so a file of a newer version can still be read.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from edgeprune.errors import UsageError

T = TypeVar("T")


def dumps(value: object) -> str:
    """A dataclass as indented JSON text.

    Raises:
        ValueError: A number in it is infinite or NaN, which JSON does not have.
    """
    data = dataclasses.asdict(value)  # type: ignore[call-overload]  # mypy has no type for "any dataclass"
    return json.dumps(data, indent=1, allow_nan=False, default=_plain) + "\n"


def load(cls: type[T], file: Path, *, schema: int) -> T:
    """Read a dataclass from a JSON file; ``schema`` is the version the file must state.

    Raises:
        UsageError: The file is missing, is not JSON or is not of this form; the text names the place.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read {str(file)!r}: {why}") from error
    return loads(cls, text, source=str(file), schema=schema)


def loads(cls: type[T], text: str, *, source: str, schema: int | None) -> T:
    """Read a dataclass from JSON text; ``source`` is what errors call it, ``schema`` the version it must state.

    Without a ``schema`` it must state none.

    Raises:
        UsageError: It is not JSON or not of this form; the text names the place.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{source} is not JSON: {error}") from error
    if isinstance(data, dict) and data.get("schema") != schema:
        stated = json.dumps(data.get("schema"))
        raise UsageError(f"{source} states schema {stated}; this version of edgeprune reads schema {schema}")
    value: T = _decode(cls, data, source, "")
    return value


def _plain(value: object) -> object:
    """The JSON form of other mappings than dict and of NumPy scalars, which have ``item``: NumPy is not imported."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _decode(kind: Any, data: Any, source: str, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        (kind,) = (a for a in arguments if a is not type(None))
        return _decode(kind, data, source, place)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, source, place)
    if origin is Literal and data in arguments:
        return data
    if kind is object:
        return data
    if origin is tuple and isinstance(data, list):
        return tuple(_decode(arguments[0], item, source, f"{place}[{i}]") for i, item in enumerate(data))
    if origin is Mapping and isinstance(data, dict):
        return {key: _decode(arguments[1], item, source, f"{place}.{key}") for key, item in data.items()}
    if kind is float and isinstance(data, (int, float)) and not isinstance(data, bool) and math.isfinite(data):
        return float(data)
    if kind in (int, str, bool) and type(data) is kind:
        return data
    wanted = f"one of {', '.join(map(str, arguments))}" if origin is Literal else _called(origin or kind)
    raise UsageError(f"{source}: {place.lstrip('.') or 'the whole'} is {json.dumps(data)[:40]}, not {wanted}")


def _decode_dataclass(kind: Any, data: Any, source: str, place: str) -> Any:
    if not isinstance(data, dict):
        raise UsageError(f"{source}: {place.lstrip('.') or 'the whole'} is not a JSON object")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _decode(hints[name], data[name], source, f"{place}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{source}: {f'{place}.{name}'.lstrip('.')} is missing")
    return kind(**values)


def _called(kind: Any) -> str:
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", tuple: "a list"}
    return names.get(kind, "an object")
