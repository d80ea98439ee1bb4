"""Numbers with or without their unit on the command line: ``4``, ``4ms`` and ``0.004 s`` are the same latency."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

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


MILLISECONDS = Quantity({"ms": 1.0, "s": 1e3, "us": 1e-3, "µs": 1e-3})
TIMES = Quantity({"x": 1.0})
POINTS = Quantity({"%": 1.0, "points": 1.0, "point": 1.0}, zero=True)
