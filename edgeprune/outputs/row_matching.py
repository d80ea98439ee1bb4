"""Rows that a choice has put in order, such as the boxes of a two-stage detector: matched before they are compared.

A small change of two scores exchanges two boxes, and with them two rows of every output behind. So the result's rows
are assigned to the original's with the least total distance over all these outputs, as DETR assigns predictions. Rows
without a partner are lost, or were not there before: they are compared with zeros, and integers with -1, since 0 is a
class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from edgeprune.outputs.output_spec import Array


def matched_rows(
    names: Sequence[str], wanted: Mapping[str, Array], got: Mapping[str, Array]
) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """The outputs of both models, with the result's rows in the order of the original's.

    Outputs with as many rows move together: proposals and final boxes are two choices.

    Args:
        names: the outputs whose first axis is that of the rows.
        wanted: output -> array of the original.
        got: output -> array of the result.
    """
    together: dict[int, list[str]] = {}
    for name in names:
        together.setdefault(len(wanted[name]), []).append(name)
    for some in together.values():
        wanted, got = _matched(some, wanted, got)
    return wanted, got


def _matched(
    names: Sequence[str], wanted: Mapping[str, Array], got: Mapping[str, Array]
) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
    """Both, with the rows of outputs that move together in the same order."""
    counts = {len(got[name]) for name in names}
    same = all(wanted[name].shape[1:] == got[name].shape[1:] for name in names)
    if not same or len(counts) != 1:
        return wanted, got
    before, (after,) = len(wanted[names[0]]), counts
    scales = {name: _scale(wanted[name]) for name in names}
    one, other = (_features(names, arrays, scales) for arrays in (wanted, got))
    distance = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    places, partners = linear_sum_assignment(distance)
    most = before + after - len(places)
    first = [*range(before), *[-1] * (most - before)]
    second = np.full(most, -1)
    second[places] = partners
    second[before:] = sorted(set(range(after)) - set(partners.tolist()))
    return (
        {**wanted, **{name: _ordered(wanted[name], np.array(first, np.int64)) for name in names}},
        {**got, **{name: _ordered(got[name], second) for name in names}},
    )


def _scale(array: Array) -> float:
    """The deviation of an output's finite values."""
    values = array[np.isfinite(array)].astype(np.float64)
    return float(values.std() or 1.0) if values.size else 1.0


def _features(names: Sequence[str], arrays: Mapping[str, Array], scales: Mapping[str, float]) -> NDArray[np.float64]:
    """Shape (rows, values); every output counts equally, and what is not finite does not count."""
    flat = [arrays[n].reshape(len(arrays[n]), math.prod(arrays[n].shape[1:])) for n in names]
    parts = zip(names, flat, strict=True)
    whole = np.concatenate([x.astype(np.float64) / scales[n] / np.sqrt(max(1, x.shape[1])) for n, x in parts], axis=1)
    return np.asarray(np.nan_to_num(whole, posinf=0.0, neginf=0.0), np.float64)


def _ordered(array: Array, order: NDArray[np.int64]) -> Array:
    """The rows in this order; for -1 a row of zeros, or of -1 for integers."""
    padding = np.full_like(array, -1 if array.dtype.kind == "i" else 0, shape=(1, *array.shape[1:]))
    padded = np.concatenate([array, padding])
    return np.asarray(padded[order])
