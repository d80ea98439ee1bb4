"""What mkdocs does beside its own work: write the command reference, and publish schemas that are made from code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

ROOT = Path(__file__).resolve().parents[1]


COMMANDS = "<!-- commands -->"
"""Where in a page the command reference begins; it goes to the end of the page."""

PAGE = ROOT / "docs" / "reference" / "commands.md"
"""The page with the command reference, which is kept in the repository: ``python docs/hooks.py`` writes it."""


def command_reference() -> str:
    """Every command with its arguments and options, in the words of its ``--help``, as Markdown."""
    import click

    from edgeprune.cli.commands import cli

    return "\n".join(_command(cli, click.Context(cli, info_name="edgeprune", **cli.context_settings), 2))


def _command(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    import click

    yield f"{'#' * level} {context.command_path}\n"
    for paragraph in (command.help or "").split("\n\n"):
        yield escape(" ".join(paragraph.split())) + "\n"
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from _command(
                inner, click.Context(inner, info_name=name, parent=context, **inner.context_settings), level + 1
            )
        return
    yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n"
    yield "| option | what it does |\n|---|---|"
    for parameter in command.params:  # without --help, which click makes for the first context that asks
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            flags, said = (escape(" ".join(text.split())).replace("|", "&#124;") for text in record)
            yield f"| <code>{flags}</code> | {said} |"
    yield ""


def recipe_schema() -> dict[str, Any]:
    """The schema of recipe.toml: one key a flag of ``compile``, of the type that the command line takes."""
    import click

    from edgeprune.cli.commands import cli
    from edgeprune.cli.quantity import Quantity

    kinds: dict[type[click.ParamType], dict[str, Any]] = {
        click.types.BoolParamType: {"type": "boolean"},
        click.types.IntParamType: {"type": "integer"},
        click.types.IntRange: {"type": "integer"},
        click.types.FloatParamType: {"type": "number"},
        click.types.FloatRange: {"type": "number"},
        Quantity: {"type": ["number", "string"]},
    }
    properties: dict[str, Any] = {"model": {"type": "string", "description": "The ONNX file."}}
    for parameter in cli.commands["compile"].params:
        if not isinstance(parameter, click.Option) or parameter.name == "recipe":
            continue
        kind = dict(kinds.get(type(parameter.type), {"type": "string"}))
        if isinstance(parameter.type, click.Choice):
            kind = {"enum": list(parameter.type.choices)}
        if parameter.multiple:
            kind = {"anyOf": [kind, {"type": "array", "items": kind}]}
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


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the command reference in its place."""
    before, marker, _ = markdown.partition(COMMANDS)
    return f"{before}{COMMANDS}\n\n{command_reference()}" if marker else markdown


if __name__ == "__main__":
    PAGE.write_text(on_page_markdown(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
