"""Validation of profiles against ``schema.json``, for the keywords of JSON Schema that this file uses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any

from edgeprune.errors import ProfileError

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}

_LIMITS: Mapping[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minimum": (lambda v, limit: v >= limit, "is below"),
    "maximum": (lambda v, limit: v <= limit, "is above"),
    "exclusiveMinimum": (lambda v, limit: v > limit, "is not above"),
    "minItems": (lambda v, limit: len(v) >= limit, "has fewer items than"),
    "maxItems": (lambda v, limit: len(v) <= limit, "has more items than"),
}

_OTHERS = frozenset(
    {"type", "enum", "pattern", "required", "properties", "additionalProperties", "items"}
    | {"$ref", "$schema", "title", "$defs"}
)


def schema() -> dict[str, Any]:
    """The profile schema."""
    text = (files("edgeprune.hwprofiles") / "schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def validate(document: object, where: str) -> None:
    """Check a profile.

    Args:
        document: the content of the file.
        where: the file's name, for the message.

    Raises:
        ProfileError: a field is not valid; the text names the file and the field.
    """
    root = schema()
    for problem in _problems(document, root, root, ""):
        raise ProfileError(f"profile {where}: {problem}")


def _problems(value: Any, rule: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[str]:
    name = path or "the document"
    if unknown := set(rule) - set(_LIMITS) - _OTHERS:
        raise ValueError(f"schema.json uses keywords that are not implemented: {', '.join(sorted(unknown))}")
    if "$ref" in rule:
        yield from _problems(value, root["$defs"][rule["$ref"].rsplit("/", 1)[1]], root, path)
        return
    expected = rule.get("type")
    if expected and (not isinstance(value, _TYPES[expected]) or (isinstance(value, bool) and expected != "boolean")):
        yield f"{name} must be of type {expected}, not {json.dumps(value)[:60]}"
        return
    if "enum" in rule and value not in rule["enum"]:
        yield f"{name} is {json.dumps(value)}, but must be one of {', '.join(map(json.dumps, rule['enum']))}"
    if "pattern" in rule and not re.search(rule["pattern"], value):
        yield f"{name} is {json.dumps(value)}, which does not match {rule['pattern']}"
    for keyword, (holds, text) in _LIMITS.items():
        if keyword in rule and not holds(value, rule[keyword]):
            yield f"{name} {text} {rule[keyword]}"
    if isinstance(value, dict):
        yield from _object_problems(value, rule, root, path)
    if isinstance(value, list) and "items" in rule:
        for i, item in enumerate(value):
            yield from _problems(item, rule["items"], root, f"{path}[{i}]")


def _object_problems(
    value: dict[str, Any], rule: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> Iterator[str]:
    for key in rule.get("required", ()):
        if key not in value:
            yield f"{path or 'the document'} has no {key!r}"
    properties = rule.get("properties", {})
    extra = rule.get("additionalProperties", True)
    for key, item in value.items():
        below = f"{path}.{key}" if path else key
        if key in properties:
            yield from _problems(item, properties[key], root, below)
        elif extra is False:
            yield f"{below} is not a field of the schema"
        elif isinstance(extra, dict):
            yield from _problems(item, extra, root, below)
