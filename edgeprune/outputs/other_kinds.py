"""The other kinds of outputs: integers, sorted scores, recurrent states, embeddings, boxes, coordinates and maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeprune.outputs.box_geometry import are_corners
from edgeprune.outputs.class_scores import EMBEDDING_SIZES
from edgeprune.outputs.output_spec import (
    BOXES,
    CLASS_MAP,
    COORDINATES,
    COSINE,
    EMBEDDING,
    EQUAL,
    INDICES,
    INTEGERS,
    IOU,
    MAP,
    RANKING,
    SEQUENCE,
    SORTED_SCORES,
    SQNR,
    STATE,
    TENSOR,
    VALUES,
    OutputSpec,
)
from edgeprune.outputs.seen import LINEAR, Seen

RECURRENT = ("LSTM", "GRU", "RNN")
MOST_RANKED = 10
"""So many indices of a TopK, or fewer, are a ranking, and people read the first one as the class."""

MOST_CLASSES = 256
"""Integers over two axes with more different values are no classes of pixels."""

IMAGE_LEVELS = 32
"""An output of 8-bit integers with more different values is an image."""


def integers(seen: Seen) -> OutputSpec | None:
    """Integers and truth values; the indices of a large TopK or of suppressed boxes have no order."""
    if seen.is_float:
        return None
    x = seen.array
    if x.dtype.kind == "u" and x.ndim > 2 and len(np.unique(x)) > IMAGE_LEVELS:
        return OutputSpec((seen.name,), MAP, SQNR, "8-bit values of an image")
    if _is_ranking(seen):
        return OutputSpec((seen.name,), RANKING, EQUAL, f"the first {x.shape[-1]} of a TopK")
    if seen.made_by() in ("TopK", "NonMaxSuppression", "NonZero") and seen.value is not None:
        return OutputSpec((seen.name,), INDICES, EQUAL, f"a {seen.made_by()} gives it")
    if x.ndim > 2 and _is_grid_of_classes(seen):
        return OutputSpec((seen.name,), CLASS_MAP, EQUAL, "the class of every pixel")
    if x.ndim == 2 and x.shape[1] > 1 and seen.made_by() == "ArgMax" and seen.value is not None:
        return OutputSpec((seen.name,), SEQUENCE, EQUAL, "an ArgMax gives the class of every step")
    return OutputSpec((seen.name,), INTEGERS, EQUAL, f"{x.dtype} values")


def _is_grid_of_classes(seen: Seen) -> bool:
    """Whether integers over two axes are few different ones, as the classes of pixels or a mask."""
    x = seen.array
    return sum(length > 1 for length in x.shape[1:]) > 1 and len(np.unique(x)) <= MOST_CLASSES


def _is_ranking(seen: Seen) -> bool:
    node = seen.maker()
    if node is None or node.op_type != "TopK" or seen.array.ndim < 2 or seen.array.shape[-1] > MOST_RANKED:
        return False
    last = node.attributes.get_int("axis", -1) in (-1, seen.array.ndim - 1)
    return last and node.attributes.get_int("sorted", 1) != 0


def sorted_scores(seen: Seen) -> OutputSpec | None:
    """Scores that a TopK has sorted: the first one is always the largest, so agreement of the class says nothing."""
    x = seen.array
    if x.ndim < 1 or x.shape[-1] < 2 or not x.size:
        return None
    if seen.made_by() != "TopK" or seen.value is None or (np.diff(x, axis=-1) > 0).any():
        return None
    return OutputSpec((seen.name,), SORTED_SCORES, SQNR, "a TopK gives it in order, so their size is compared")


def state(seen: Seen, inputs: Sequence[tuple[str, tuple[object, ...]]]) -> OutputSpec | None:
    """The state of a recurrent network: of an LSTM or GRU, or with an input of a related name for the next step."""
    maker = seen.maker()
    if maker is not None and maker.op_type in RECURRENT and _from_output(seen, maker.op_type) > 0:
        return OutputSpec((seen.name,), STATE, SQNR, f"the last state of a {maker.op_type}")
    for name, shape in inputs:
        if name != seen.name and len(shape) == seen.array.ndim and _are_paired(name, seen.name):
            return OutputSpec((seen.name,), STATE, SQNR, f"input {name!r} takes it at the next step")
    return None


def _from_output(seen: Seen, op_type: str) -> int:
    value = seen.value
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == op_type:
            return list(node.outputs).index(value)
        value = node.inputs[0] if node.inputs else None
    return 0


def _are_paired(one: str, other: str) -> bool:
    """Whether names differ only by in and out, previous and next, or alike: ``r1i`` and ``r1o``, ``h`` and ``hn``."""
    plain = [name.lower() for name in (one, other)]
    for before, after in (("i", "o"), ("in", "out"), ("input", "output"), ("prev", "next"), ("past", "present")):
        if plain[0].endswith(before) and plain[1] == plain[0].removesuffix(before) + after:
            return True
        if before in plain[0] and len(before) > 1 and plain[0].replace(before, after) == plain[1]:
            return True
    return plain[1] in (f"{plain[0]}n", f"{plain[0]}_n", f"new_{plain[0]}", f"{plain[0]}_new", f"{plain[0]}n_1")


def boxes(seen: Seen) -> OutputSpec | None:
    """Boxes without scores: four values, called so, or two ordered corners."""
    x = seen.array
    if x.ndim < 2 or x.shape[-1] != 4 or not x.size or not seen.is_float or _is_grid(seen):
        return None
    flat = x.reshape(-1, 4)
    ordered = bool((flat[:, 2:] > flat[:, :2]).all())
    if ordered and (seen.is_called("boxes") or (len(flat) > 8 and bool((flat >= 0).all()))):
        return OutputSpec((seen.name,), BOXES, IOU, "four values that are two corners")
    if seen.is_called("boxes") and bool((flat[:, 2:] > 0).all()) and not are_corners(flat):
        return OutputSpec((seen.name,), BOXES, IOU, "its name, and four values with a size")
    if seen.is_called("boxes"):
        return OutputSpec((seen.name,), COORDINATES, SQNR, "its name, and values that are no whole boxes")
    return None


def coordinates(seen: Seen) -> OutputSpec | None:
    """Landmarks, key points and other coordinates; a few values of a last linear layer are treated alike."""
    x = seen.array
    if not seen.is_float or x.ndim < 2 or _is_grid(seen) or x.size == len(x):
        return None
    if seen.is_called("coordinates") and not seen.is_called("embedding"):
        return OutputSpec((seen.name,), COORDINATES, SQNR, "its name")
    if x.ndim == 2 and x.shape[1] in (2, 3, 4) and seen.made_by() in LINEAR | {"Sigmoid", "Tanh"}:
        return OutputSpec((seen.name,), COORDINATES, SQNR, f"{x.shape[1]} values of a last layer, no class scores")
    return None


def embedding(seen: Seen) -> OutputSpec | None:
    """One vector for each sample: of length 1, called so, or of a usual size behind a linear layer."""
    x = seen.array
    if not seen.is_float or x.ndim != 2 or x.shape[1] < 8:
        return None
    length = np.sqrt((x.astype(np.float64) ** 2).sum(axis=1))
    if length.size > 1 and np.abs(length - 1).max() < 1e-2:
        return OutputSpec((seen.name,), EMBEDDING, COSINE, "vectors of length 1")
    if seen.is_called("embedding"):
        return OutputSpec((seen.name,), EMBEDDING, COSINE, "its name")
    if x.shape[1] in EMBEDDING_SIZES:
        return OutputSpec((seen.name,), EMBEDDING, COSINE, f"vectors of {x.shape[1]} values, no class scores")
    return None


def dense_map(seen: Seen) -> OutputSpec | None:
    """Values at every pixel: depth, masks, heat maps, images, features."""
    if seen.is_float and _is_grid(seen):
        why = "values at every position of a map"
        return OutputSpec((seen.name,), MAP, SQNR, why, axis=1 - seen.array.ndim)
    return None


def tensor(seen: Seen) -> OutputSpec:
    """Anything else."""
    why = "nothing more is known of it"
    if seen.made_by() in LINEAR and seen.array.ndim > 1 and seen.array.shape[-1] > 1:
        why = f"{why}; if its last axis is classes or bins, --fidelity {seen.name}=argmax compares the largest"
    return OutputSpec((seen.name,), VALUES if seen.array.ndim == 2 else TENSOR, SQNR, why)


def _is_grid(seen: Seen) -> bool:
    return seen.array.ndim in (4, 5) and sum(length > 1 for length in seen.array.shape[1:]) > 1
