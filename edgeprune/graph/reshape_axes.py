"""How the axes of a reshape's input and output correspond, symbols included, and how to write its target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

Dim: TypeAlias = int | str | None
"""A size, the symbol of a size, or nothing known."""

_Monomial: TypeAlias = tuple[int, tuple[tuple[str, int], ...]]
"""A product of sizes: the coefficient, and each symbol with its power, sorted."""


def monomial(dims: Sequence[Dim]) -> _Monomial | None:
    """The product of sizes, symbols such as ``64*batch`` taken apart; None if one of them is unknown."""
    coefficient, powers = 1, Counter[str]()
    for dim in dims:
        if dim is None:
            return None
        for part in str(dim).split("*"):
            if part.isdigit():
                coefficient *= int(part)
            else:
                powers[part] += 1
    return coefficient, tuple(sorted(powers.items()))


def quotient(whole: _Monomial, part: _Monomial) -> Dim:
    """The one size that is left when a product is divided by another; None if there is no such size."""
    powers = Counter(dict(whole[1]))
    powers.subtract(dict(part[1]))
    if part[0] == 0 or whole[0] % part[0] or any(power < 0 for power in powers.values()):
        return None
    coefficient = whole[0] // part[0]
    symbols = sorted(powers.elements())
    if not symbols:
        return coefficient
    return "*".join(symbols if coefficient == 1 else [str(coefficient), *symbols])


def aligned_groups(source: Sequence[Dim], target: Sequence[Dim]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pair off the axes of two shapes of a tensor: the finest groups with equal products, axes of size 1 left out.

    ``(2, 6, 5)`` and ``(2, 3, 2, 5)`` give ``[((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]``. What follows the first
    unknown size, or cannot be matched, is in no group.
    """
    groups = []
    left = _prefixes(source)
    right = {product: index for index, (product, _) in enumerate(_prefixes(target))}
    axes = [axis for _, axis in _prefixes(target)]
    own: list[int] = []
    start = 0
    for product, axis in left:
        own.append(axis)
        end = right.get(product)
        if end is not None and end + 1 > start:
            groups.append((tuple(own), tuple(axes[start : end + 1])))
            own, start = [], end + 1
    return groups


def _prefixes(dims: Sequence[Dim]) -> list[tuple[_Monomial, int]]:
    """For each axis up to the first unknown one, without those of size 1: the product of all sizes up to it, and it."""
    result = []
    for axis, dim in enumerate(dims):
        product = monomial(dims[: axis + 1])
        if product is None or dim == 0:
            break
        if dim != 1:
            result.append((product, axis))
    return result


def constant_target(source: Sequence[Dim], wanted: Sequence[Dim]) -> tuple[int, ...] | None:
    """A constant Reshape target (``allowzero`` unset): 0 keeps an axis, at most one -1 takes what is left.

    None if there is none: two sizes unknown in place, or a size that is zero.
    """
    result = []
    for axis, dim in enumerate(wanted):
        if isinstance(dim, int):
            result.append(dim)
        elif dim is not None and axis < len(source) and source[axis] == dim:
            result.append(0)
        else:
            result.append(-1)
    return None if result.count(-1) > 1 or 0 in wanted else tuple(result)
