"""Give all tokens back to what needs them: each token that left gets the value of the one that stands in for it.

The steps of a schedule carry an index along, shape (batch, tokens of the model): for each token of the model its
position among those that are left. One Gather by it makes the tokens whole again, exactly if those that left were equal
to those that stand in for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune.graph import Refused, dim_keys, fresh_name
from edgeprune.passes.tokens.token_flow import Place, TokenAxis, TokenFlow
from edgeprune.passes.tokens.writer import Writer


def note_reads(flow: TokenFlow, node: ir.Node, why: Refused) -> bool:
    """Note the operands of a node that needs all tokens; False if tokens cannot be restored there."""
    found = [
        flow.place(node, operand, flow.axes[value][0])
        for operand, value in enumerate(node.inputs)
        if value is not None and value in flow.axes
    ]
    if not all(value is None or value not in flow.axes or _is_restorable(flow, value) for value in node.inputs):
        return False
    flow.restores += found
    flow.reasons.append(why)
    return True


def note_uses(flow: TokenFlow, value: ir.Value, graph: ir.Graph) -> Refused | None:
    """Note a value with tokens that is an output of the model, or why that is not possible."""
    if any(use.node.graph is not graph for use in value.uses()):
        return Refused(f"the tokens {value.name} are read inside of control flow")
    if not value.is_graph_output():
        return None
    refused = Refused(f"the tokens themselves are an output of the model ({value.name})")
    if not _is_restorable(flow, value):
        return refused
    flow.outputs.append(value)
    flow.reasons.append(refused)
    return None


def _is_restorable(flow: TokenFlow, value: ir.Value) -> bool:
    """Whether one axis has the tokens of one sample, and the axis of the samples is known."""
    shape, axes = dim_keys(value), flow.axes[value]
    if shape is None or len(axes) != 1:
        return False
    whole = shape[axes[0].axis] == flow.count - axes[0].first
    return whole if flow.is_single else whole and not axes[0].rows and value in flow.batch


@dataclass(eq=False)
class Restorer:
    """Restores values behind one step.

    Attributes:
        graph: to add to.
        index: of the step, shape (batch, tokens of the model).
        count: tokens of the model.
        is_single: whether there is always one sample.
    """

    graph: ir.Graph
    index: ir.Value
    count: int
    is_single: bool
    _restored: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _indices: dict[int, ir.Value] = field(default_factory=dict)

    def operand(self, place: Place) -> None:
        """Let an operand read all tokens."""
        value = place.node.inputs[place.operand]
        assert value is not None
        place.node.replace_input_with(place.operand, self._whole(value, place.tokens, place.batch, place.node))

    def output(self, value: ir.Value, tokens: TokenAxis, batch: int | None) -> None:
        """Let an output of the model have all tokens; it keeps its name."""
        outputs = self.graph.outputs
        at, name = [k for k, v in enumerate(outputs) if v is value], str(value.name)
        value.name = fresh_name(self.graph, f"{name}/fewer")
        whole = self._whole(value, tokens, batch, None, name)
        for k in at:
            outputs[k] = whole

    def _whole(
        self, value: ir.Value, tokens: TokenAxis, batch: int | None, before: ir.Node | None, name: str = ""
    ) -> ir.Value:
        if value in self._restored and not name:
            return self._restored[value]
        w = Writer(self.graph, before, f"{name or value.name}/all_tokens")
        assert value.shape is not None
        index = self._from(w, tokens.first)
        if self.is_single:
            found = w.op("Gather", value, index, axis=tokens.axis)
        else:
            assert batch is not None
            order = [batch, tokens.axis, *(k for k in range(len(value.shape)) if k not in (batch, tokens.axis))]
            if order == sorted(order):
                found = w.pick(value, index)
            else:
                picked = w.pick(w.op("Transpose", value, perm=order), index)
                found = w.op("Transpose", picked, perm=[order.index(k) for k in range(len(order))])
        found.shape = value.shape.copy()
        if name:
            found.name = name
        self._restored[value] = found
        return found

    def _from(self, w: Writer, first: int) -> ir.Value:
        """The index of the tokens from ``first`` on, in values without those before."""
        if first not in self._indices:
            index = self.index
            if first:
                rest = w.op("Slice", index, *(w.constant([v]) for v in (first, self.count, 1)))
                index = w.op("Sub", rest, w.constant([first]))
            self._indices[first] = w.reshape(index, -1) if self.is_single else w.reshape(index, 0, -1, 1)
        return self._indices[first]
