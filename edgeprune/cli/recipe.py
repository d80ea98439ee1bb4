"""Recipes on the command line: ``compile --recipe`` and ``recipe show``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from edgeprune.cli.options import FILE
from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from edgeprune.compiler import Recipe, Value

Command = TypeVar("Command", bound=Callable[..., object])

BUDGETS = ("latency_ms", "speedup", "max_drop", "pareto")
"""Parameters that are budgets; a compile takes one of them."""

_NOT_IN_A_RECIPE = frozenset({"help", "recipe", "force", "as_json", "quiet", "verbose"})
"""Options that do not change the result, only how a run is shown or where it is written."""


def recipe_option(command: Command) -> Command:
    """Add --recipe: its flags are defaults, and flags on the command line replace them."""

    @functools.wraps(command)
    def wrapped(*args: Any, **given: Any) -> Any:
        dropped = dict.fromkeys(_overruled(click.get_current_context()))
        return command(*args, **{**given, **dropped})

    add = click.option(
        "--recipe",
        type=FILE,
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_take_defaults,
        help="Take flags from a TOML file, or from the report.json of an earlier run; flags given here replace them.",
    )
    return cast(Command, add(wrapped))


def _take_defaults(context: click.Context, _: click.Parameter, file: Path | None) -> None:
    if file is None:
        return
    from edgeprune.compiler import read_recipe

    parameters = _parameters(context.command)
    found = read_recipe(file, parameters).from_here()
    context.default_map = {
        str(parameters[name].name): _for_click(parameters[name], v) for name, v in found.values.items()
    }


def _overruled(context: click.Context) -> list[str]:
    """Budgets of the recipe that one on the command line replaces: a compile takes only one."""
    from click.core import ParameterSource

    sources = {name: context.get_parameter_source(name) for name in BUDGETS}
    if ParameterSource.COMMANDLINE not in sources.values():
        return []
    return [name for name, source in sources.items() if source is ParameterSource.DEFAULT_MAP]


def effective(context: click.Context) -> Recipe:
    """The recipe of a parsed command line, defaults included, relative to the working folder."""
    from edgeprune.compiler import Recipe, as_given

    parameters = _parameters(context.command)
    dropped = {"out", *_overruled(context)}
    given = {name: context.params.get(str(p.name)) for name, p in parameters.items() if p.name not in dropped}
    values = {name: as_given(value) for name, value in given.items()}
    present = {name: value for name, value in values.items() if value is not None}
    return Recipe(present, Path.cwd())


@click.group()
def recipe() -> None:
    """Recipes: every flag of `compile` in one file."""


@recipe.command(context_settings={"ignore_unknown_options": True})
@click.argument("source", type=FILE)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[FLAGS OF COMPILE]...")
@click.option("--command", "as_command", is_flag=True, help="Print the command line instead.")
@click.pass_context
def show(context: click.Context, source: Path, flags: tuple[str, ...], as_command: bool) -> None:
    """Print the recipe that SOURCE and further flags give, defaults included, as TOML.

    SOURCE is a recipe, a report.json or its folder; or a model, to start a new recipe.
    """
    root = context.find_root()
    command = root.command
    assert isinstance(command, click.Group)
    start = [str(source)] if source.suffix == ".onnx" else ["--recipe", str(source)]
    with command.commands["compile"].make_context("compile", [*start, *flags], parent=root) as parsed:
        found = effective(parsed)
        notes = _notes(parsed)
    click.echo(found.command() if as_command else found.to_toml(notes), nl=as_command)


def _notes(context: click.Context) -> Mapping[str, str]:
    from click.core import ParameterSource

    return {
        name: "default"
        for name, parameter in _parameters(context.command).items()
        if context.get_parameter_source(str(parameter.name)) is ParameterSource.DEFAULT
    }


def _parameters(command: click.Command) -> dict[str, click.Parameter]:
    """Key in a recipe -> parameter: the long flag, or an argument's name."""
    found = {}
    for parameter in command.params:
        if parameter.name not in _NOT_IN_A_RECIPE:
            long = max(parameter.opts, key=len).lstrip("-")
            found[long] = parameter
    return found


def flags_of(command: click.Command) -> frozenset[str]:
    """The keys that a recipe of this command may have."""
    return frozenset(_parameters(command))


def _for_click(parameter: click.Parameter, value: Value) -> Value:
    if parameter.multiple:
        return value if isinstance(value, list) else [str(value)]
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(parameter, click.Option) and parameter.is_flag and not isinstance(value, bool):
        raise UsageError(f"recipe: {parameter.opts[-1].lstrip('-')} takes true or false, not {value!r}")
    return value
