"""What mkdocs does beside its own work: publish the JSON schemas that do not lie in docs/ as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def recipe_schema() -> dict[str, Any]:
    """The schema of recipe.toml: one key a flag of ``compile``, of the type that the command line takes."""
    import click

    from edgeprune.cli import cli

    kinds: dict[type[click.ParamType], dict[str, Any]] = {
        click.types.BoolParamType: {"type": "boolean"},
        click.types.IntParamType: {"type": "integer"},
        click.types.IntRange: {"type": "integer"},
        click.types.FloatParamType: {"type": "number"},
        click.types.FloatRange: {"type": "number"},
    }
    properties: dict[str, Any] = {"model": {"type": "string", "description": "The ONNX file."}}
    for parameter in cli.commands["compile"].params:
        if not isinstance(parameter, click.Option) or parameter.name == "recipe":
            continue
        kind = dict(kinds.get(type(parameter.type), {"type": "string"}))
        if isinstance(parameter.type, click.Choice):
            kind = {"enum": list(parameter.type.choices)}
        if parameter.multiple:
            kind = {"type": "array", "items": kind}
        name = max(parameter.opts, key=len).removeprefix("--")
        properties[name] = kind | {"description": parameter.help or ""}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgeprune recipe.toml: the flags of compile",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def profile_schema() -> dict[str, Any]:
    """The schema of a device profile, from its own folder."""
    found: dict[str, Any] = json.loads((ROOT / "hwprofiles" / "schema.json").read_text(encoding="utf-8"))
    return found


def on_files(files: Any, config: Any) -> Any:
    """Add the schemas to the site."""
    from mkdocs.structure.files import File

    for name, schema in (("recipe", recipe_schema()), ("device-profile", profile_schema())):
        content = json.dumps(schema, indent=2) + "\n"
        files.append(File.generated(config, f"{name}.schema.json", content=content))
    return files
