"""Constants with a number for each token, such as position biases and tables of rotary angles, behind a step.

A token that stays keeps its position; one into which others were merged, too. So the numbers of the positions that stay
are gathered from the constant.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.passes.tokens.token_flow import Place
from edgeprune.passes.tokens.writer import Writer


class Tables:
    """The constants behind one step, for one sample.

    Args:
        writer: at the step.
        stay: positions before the step of the tokens that stay, shape (1, tokens).
        earlier: of the step before.
    """

    def __init__(self, writer: Writer, stay: ir.Value, earlier: Tables | None) -> None:
        positions = writer.reshape(stay, -1)
        if earlier is not None:
            positions = writer.op("Gather", earlier.positions[0], positions, axis=0)
        self.writer = writer
        self.positions: dict[int, ir.Value] = {0: positions}
        """The first token -> positions of the model's tokens that stay from it on, counted from it."""
        self._made: dict[tuple[ir.Value, int, int], ir.Value] = {}

    def shorten(self, graph: ir.Graph, place: Place) -> None:
        """Let an operand read a constant at the positions that stay, along one axis."""
        value, first, axis = place.node.inputs[place.operand], place.tokens.first, place.tokens.axis
        assert value is not None
        if (value, axis, first) not in self._made:
            w = self.writer
            if first not in self.positions:
                ends = (w.constant([bound]) for bound in (first, 2**31 - 1, 0))
                rest = w.op("Slice", self.positions[0], *ends)
                self.positions[first] = w.op("Sub", rest, w.constant([first]))
            made = w.op("Gather", value, self.positions[first], axis=axis)
            made.shape = None if value.shape is None else value.shape.copy()
            self._made[value, axis, first] = made
        place.node.replace_input_with(place.operand, self._made[value, axis, first])
