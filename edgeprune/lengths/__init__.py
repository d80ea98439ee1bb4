"""Lengths of axes that are open, as polynomials of their symbols: ``64*n``, ``h*w + 1``, ``((h + 1)//2)``.

In: numbers, and the names of dimensions.
Out: sums, products, quotients and bounds, in one canonical text; numbers that stand in for them.
May import: errors.
"""

from edgeprune.lengths.arithmetic import (
    add,
    at_least,
    broadcast,
    ceil,
    divide,
    evaluate,
    floor,
    floor_divide,
    is_divisible,
    largest,
    multiply,
    product,
    smallest,
    subtract,
)
from edgeprune.lengths.decisions import equal, greater, mod, quotient, truncated
from edgeprune.lengths.stand_ins import StandIns
from edgeprune.lengths.text import Dim, symbols
