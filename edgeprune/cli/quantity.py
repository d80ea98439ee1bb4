"""Numbers with or without their unit on the command line: ``4``, ``4ms`` and ``0.004 s`` are the same latency."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeprune.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

if TYPE_CHECKING:
    FloatType = click.ParamType[float]
else:
    FloatType = click.ParamType

_NUMBER = re.compile(r"\s*(?P<number>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(?P<unit>\D*?)\s*")


class Quantity(FloatType):
    """A finite number above 0, or from 0 on.

    Args:
        units: unit -> factor to the unit that the option is in.
        zero: whether 0 is allowed.
    """

    name = "quantity"

    def __init__(self, units: Mapping[str, float], *, zero: bool = False):
        self.units, self.zero = units, zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number in the option's unit."""
        found = _NUMBER.fullmatch(str(value))
        unit = found["unit"].lower() if found is not None else ""
        if found is None or (unit and unit not in self.units):
            known = " or ".join(self.units)
            self.fail(f"{value!r} is not a number, with or without {known}.", param, ctx)
        try:
            number = float(found["number"]) * self.units.get(unit, 1.0)
        except ValueError:
            self.fail(f"{value!r} is not a number.", param, ctx)
        if not math.isfinite(number) or number < 0 or (number == 0 and not self.zero):
            self.fail(f"{value!r} is not a finite number {'from 0 on' if self.zero else 'above 0'}.", param, ctx)
        return number


class Range(click.FloatRange):
    """A number within a range; click itself takes ``nan`` for one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class Share(Range):
    """A fraction of the whole, as a number or in percent: ``0.3`` or ``30%``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """A fraction within the range."""
        text = str(value).strip()
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{value!r} is not a fraction such as 0.3, or 30%.", param, ctx)
        if number > 1 and not text.endswith("%"):
            self.fail(f"{value!r} is more than the whole; {value}% would be {number / 100:g}.", param, ctx)
        return super().convert(number, param, ctx)


MILLISECONDS = Quantity({"ms": 1.0, "s": 1e3, "us": 1e-3, "µs": 1e-3})
TIMES = Quantity({"x": 1.0})
MEGABYTES = Quantity({"mb": 1.0})
MILLIJOULES = Quantity({"mj": 1.0})
POINTS = Quantity({"%": 1.0, "points": 1.0, "point": 1.0}, zero=True)


def parse_speedups(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """``1.5,2,3`` as numbers above 0."""
    if value is None:
        return None
    numbers = parse_numbers(value.lower().replace("x", ""))
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise UsageError(f"--{parameter.name} takes speed-ups separated by commas, such as 1.5,2,3, not {value!r}")
    return numbers


def parse_numbers(text: str) -> tuple[float, ...]:
    """Numbers separated by commas; empty if one of them is not a number."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()


def parse_fraction(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """``5%`` or ``0.05`` as 0.05; a bare 5 is refused, since it may mean either."""
    if value is None:
        return None
    flag = parameter.opts[-1]
    text = value.strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{flag} takes a percentage such as 5%, not {value!r}")
    if text.endswith("%"):
        return number / 100
    if number >= 1:
        raise UsageError(f"{flag} {value} is ambiguous: write {value}% for a percentage")
    return number


LIMITS = ("p99_ms", "max_energy_mj", "max_memory_mb")
"""Parameters that limit a result beside its budget."""


def limit_options(command: Command) -> Command:
    """Add --p99, --max-energy-mj and --max-memory-mb, received by the names in `LIMITS`."""
    for option in (
        click.option(
            "--max-memory-mb",
            type=MEGABYTES,
            metavar="X",
            help="Limit: at most X MB for weights and activations; measured on a device, else counted.",
        ),
        click.option(
            "--max-energy-mj",
            type=MILLIJOULES,
            metavar="X",
            help="Limit: at most X millijoules above idling; measured on a device with sensors, else predicted.",
        ),
        click.option(
            "--p99",
            "p99_ms",
            type=MILLISECONDS,
            metavar="X",
            help="Limit: at most X milliseconds in 99 of 100 single runs.",
        ),
    ):
        command = option(command)
    return command
