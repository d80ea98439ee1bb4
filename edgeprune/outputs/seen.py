"""One output as it is seen: its values on some samples, and its place in the graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant
from edgeprune.outputs.output_spec import Array

MOVES = frozenset(
    ("Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Dropout", "Slice", "Gather")
)
"""Operators that only move or select values."""

LINEAR = frozenset(("Gemm", "MatMul", "Conv", "ConvTranspose", "FusedMatMul"))

NEAR = 24
"""Most nodes that are looked at behind an output to see what makes it."""

_WORDS = {
    "classes": r"logits?|probs?|probabilit\w*|class(es)?|cls|scores?|conf\w*|softmax|labels?|categor\w*|pred_logits",
    "boxes": r"box(es)?|bbox(es)?|rects?|rois?",
    "coordinates": r"landmarks?|lmks?|ldmks?|kps|kpts?|keypoints?|points?|coords?|joints?|pose|loc|offsets?|deltas?",
    "embedding": r"emb\w*|feat\w*|descriptors?|vector|latent|pooled|pooler_output|hidden\w*|encodings?",
    "map": r"depth|disp\w*|flow|heat\w*|hm|masks?|seg\w*|alpha|pha|fgr|mattes?|image|img|recon\w*|mel|audio|wav\w*",
}


@dataclass(frozen=True, eq=False)
class Seen:
    """An output, its values, and what the graph says.

    Attributes:
        name: of the output.
        array: its values, with all samples joined on the first axis.
        value: the output in the graph; None if only the values are known.
    """

    name: str
    array: Array
    value: ir.Value | None = None

    @property
    def is_float(self) -> bool:
        """Whether its values are floats."""
        return self.array.dtype.kind == "f"

    def is_called(self, what: str) -> bool:
        """Whether a word of its name says ``classes``, ``boxes``, ``coordinates``, ``embedding`` or ``map``."""
        spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.name)
        words = [re.sub(r"\d+$", "", word) for word in re.split(r"[^A-Za-z0-9]+", spaced.lower())]
        return any(re.fullmatch(_WORDS[what], word) for word in words if word)

    def maker(self) -> ir.Node | None:
        """The node that computes the values, behind nodes that only move them."""
        node = None if self.value is None else self.value.producer()
        while node is not None and node.op_type in MOVES and node.inputs and node.inputs[0] is not None:
            node = node.inputs[0].producer()
        return node

    def made_by(self) -> str:
        """The operator of `maker`; an empty text if it is not known. A bias that is added counts to its layer."""
        node = self.maker()
        while node is not None and node.op_type == "Add" and any(constant(v) is not None for v in node.inputs if v):
            rest = [v for v in node.inputs if v is not None and constant(v) is None]
            if len(rest) != 1 or (producer := rest[0].producer()) is None or producer.op_type not in LINEAR:
                break
            node = producer
        return "" if node is None else node.op_type

    def softmax_axis(self) -> int | None:
        """The axis of a Softmax or LogSoftmax that gives the output, counted from the end; None without one.

        Behind a Reshape the axis is not known by the graph; the last one is assumed if its length did not change.
        """
        node = None if self.value is None else self.value.producer()
        order: list[int] | None = None  # of the axes, by the Transposes that follow the Softmax
        while node is not None and node.op_type in MOVES and node.inputs and node.inputs[0] is not None:
            if node.op_type == "Transpose":
                perm = list(node.attributes.get_ints("perm", ())) or list(range(self.array.ndim))[::-1]
                order = perm if order is None or len(order) != len(perm) else [perm[i] for i in order]
            node = node.inputs[0].producer()
        if node is None or node.op_type not in ("Softmax", "LogSoftmax"):
            return None
        rank = self.array.ndim
        axis = node.attributes.get_int("axis", -1) % rank
        if order is not None and len(order) == rank:
            axis = order.index(axis)
        return axis - rank

    def behind(self, most: int = NEAR) -> Iterator[ir.Node]:
        """The nearest nodes behind the output, the nearest first."""
        todo = [] if self.value is None else [self.value.producer()]
        known: set[ir.Node] = set()
        while todo and len(known) < most:
            node = todo.pop(0)
            if node is None or node in known:
                continue
            known.add(node)
            yield node
            todo += [v.producer() for v in node.inputs if v is not None]

    def has_behind(self, *op_types: str, most: int = NEAR) -> bool:
        """Whether one of the nearest nodes has one of these operators; True if the graph is not known."""
        return self.value is None or any(node.op_type in op_types for node in self.behind(most))


def rows(x: Array, axis: int) -> Array:
    """Shape (positions, classes), float64; at most about a hundred thousand positions, spread evenly."""
    moved = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    return moved[:: max(1, len(moved) // 100_000)].astype(np.float64)
