"""Axis-relation rules, one file for each operator family; importing this package registers them all.

A rule is a function that returns a :class:`edgeprune.dependency.dims.Rel` for a node. Operators with a length in an
attribute or a constant also have a repair, beside their rule.
"""

from edgeprune.dependency.dims import rule_of
from edgeprune.dependency.repair import repair_of
from edgeprune.dependency.rules import (
    attention,
    conv,
    elementwise,
    index,
    matmul,
    norm,
    quant,
    recurrent,
    reduce,
    router,
    shape,
    spatial,
)
