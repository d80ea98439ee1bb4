"""Options that say which structures of a network may leave besides the widths of its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_TOKENS = click.option(
    "--tokens",
    type=click.Choice(["auto", "none", "tome", "saint", "dart", "bavit"]),
    default="auto",
    show_default=True,
    help="Whether tokens of a transformer may leave between its blocks: merged (tome) or dropped (saint, dart, bavit).",
)
_RANK = click.option(
    "--rank",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Whether a linear layer may become two of low rank; auto where two are faster and their loss is worth it.",
)
_EMBEDDING = click.option(
    "--embedding",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Whether the residual stream of a transformer may become narrower, in the basis of its principal directions.",
)


def structure_options(command: Command) -> Command:
    """``--tokens``, ``--rank`` and ``--embedding``."""
    return _TOKENS(_RANK(_EMBEDDING(command)))
