"""Where the tokens of a value go: the axes that carry them, and the operators that do more than treat them one by one.

The axis relations of the operators are followed from the value to the end of the graph. Behind it tokens may leave if

* every operator treats its tokens one by one, which its relation says;
* or it is one that a smaller number of tokens has a meaning for: the Softmax of an attention with the MatMul after it,
  the mean over all tokens, and the choice of the first tokens by position (class and distillation tokens).

A constant with a number for each token, such as a relative position bias, is read at the positions of those that stay.
Everything else needs all tokens: a grid or windows of tokens, a convolution, a sum over tokens without a Softmax, an
output of the model. Such an operand is *restored*: every token that left gets the value of the token that stands in for
it. Where that is not possible, as on the scores of an attention, the tokens stay, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune.graph import Refused, dim_keys, is_op
from edgeprune.passes.tokens.axis_labels import Label, NodeAxes, node_axes

PASSES = ("Cast", "Dropout", "Identity", "MatMul", "Mul", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators behind a Softmax whose result is still its probabilities, perhaps mixed over the heads by constants."""


@dataclass(frozen=True)
class TokenAxis:
    """An axis that carries tokens.

    Attributes:
        axis: its position.
        first: the first token on it; tokens before it were cut off.
        rows: whether batch and tokens share the axis, as where a MatMul works on rows.
    """

    axis: int
    first: int = 0
    rows: bool = False


@dataclass(frozen=True, eq=False)
class Place:
    """An operator whose operand ``operand`` has its tokens on ``tokens``, and its samples on axis ``batch``."""

    node: ir.Node
    operand: int
    tokens: TokenAxis
    batch: int | None


@dataclass(eq=False)
class TokenFlow:
    """The tokens behind one value.

    Attributes:
        source: the value.
        count: its number of tokens.
        axes: value -> the axes that carry tokens; scores of an attention have two.
        batch: value -> the axis of its samples.
        softmaxes: over tokens, and Attention operators.
        pools: means over all tokens.
        protected: tokens at the beginning that are chosen by position.
        self_attentions: how many of ``softmaxes`` have tokens as queries and as keys.
        linears: MatMuls of tokens with weights.
        tables: constants with a number for each token; tokens take the number of their position along.
        restores: operands that need all tokens.
        reasons: why they do.
        outputs: outputs of the model that carry tokens.
    """

    source: ir.Value
    count: int
    axes: dict[ir.Value, tuple[TokenAxis, ...]] = field(default_factory=dict)
    batch: dict[ir.Value, int] = field(default_factory=dict)
    softmaxes: list[Place] = field(default_factory=list)
    pools: list[Place] = field(default_factory=list)
    protected: int = 0
    self_attentions: int = 0
    linears: int = 0
    probabilities: dict[ir.Value, int] = field(default_factory=dict)
    tables: list[Place] = field(default_factory=list)
    restores: list[Place] = field(default_factory=list)
    reasons: list[Refused] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)

    def on(self, value: ir.Value | None, axis: int) -> TokenAxis | None:
        """What an axis of a value carries, if it carries tokens."""
        found = () if value is None else self.axes.get(value, ())
        return next((t for t in found if t.axis == axis), None)

    def carry(self, value: ir.Value, *tokens: TokenAxis) -> None:
        """Note that axes of a value carry tokens."""
        self.axes[value] = tuple(sorted(tokens, key=lambda t: t.axis))

    @property
    def is_single(self) -> bool:
        """Whether there is always one sample."""
        return self.source.shape is not None and self.source.shape[0] == 1

    def place(self, node: ir.Node, operand: int, tokens: TokenAxis) -> Place:
        """A place of this flow."""
        value = node.inputs[operand]
        return Place(node, operand, tokens, None if value is None else self.batch.get(value))

    def mark(self) -> tuple[int, ...]:
        """What `undo` needs to forget a node."""
        return (
            len(self.softmaxes),
            len(self.pools),
            len(self.tables),
            self.protected,
            self.self_attentions,
            self.linears,
        )

    def undo(self, node: ir.Node, mark: tuple[int, ...]) -> None:
        """Forget what was noted of a node."""
        for value in node.outputs:
            for noted in (self.axes, self.batch, self.probabilities):
                noted.pop(value, None)
        del self.softmaxes[mark[0] :], self.pools[mark[1] :], self.tables[mark[2] :]
        self.protected, self.self_attentions, self.linears = mark[3:]


def general_step(flow: TokenFlow, node: ir.Node, opset: int) -> Refused | None:
    """Follow the tokens through a node that treats them one by one, by its axis relation."""
    axes = node_axes(node, opset)
    if isinstance(axes, Refused):
        return axes
    factors: dict[str, TokenAxis] = {}
    for operand, value in enumerate(node.inputs):
        for tokens in () if value is None else flow.axes.get(value, ()):
            found = _factor(flow, axes, operand, tokens)
            if isinstance(found, Refused):
                return Refused(f"{found} ({node.op_type} {node.name})")
            name, state = found
            if name in factors and (factors[name].first, factors[name].rows) != (state.first, state.rows):
                return Refused(f"tokens at other positions are joined ({node.op_type} {node.name})")
            factors[name] = state
    for name, state in factors.items():
        refused = _passes(flow, node, axes, name, state)
        if refused is not None:
            return refused
    _batch_step(flow, node, axes)
    _probabilities_step(flow, node, axes)
    if is_op(node, "MatMul", "Gemm") and any(v is not None and v.const_value is not None for v in node.inputs):
        flow.linears += 1
    return None


def _factor(flow: TokenFlow, axes: NodeAxes, operand: int, tokens: TokenAxis) -> tuple[str, TokenAxis] | Refused:
    """The factor of a node's relation that its tokens are on, and what it carries."""
    labels = axes.inputs[operand] if operand < len(axes.inputs) else None
    label = labels[tokens.axis] if labels is not None else Label("frozen")
    if label.kind == "factor":
        name, state = label.factors[0], tokens
    elif label.kind == "product" and tokens.rows and axes.size(label.factors[-1]) == flow.count - tokens.first:
        name, state = label.factors[-1], TokenAxis(tokens.axis, tokens.first)
    elif label.kind == "product":
        return Refused("the tokens are laid out as a grid or as windows")
    else:
        return Refused(axes.rel.why or "the operator works along the tokens")
    if axes.is_bound(name):
        return Refused(axes.rel.why or "the operator works along the tokens")
    return name, state


def _passes(flow: TokenFlow, node: ir.Node, axes: NodeAxes, name: str, state: TokenAxis) -> Refused | None:
    """Check that every other operand's axis with the factor has the same tokens, and note the axes of the results."""
    for operand, labels in enumerate(axes.inputs):
        value = node.inputs[operand]
        for axis, label in enumerate(labels or ()):
            if value is None or name not in label.factors or flow.on(value, axis) is not None:
                continue
            shape = dim_keys(value)
            if shape is not None and shape[axis] == 1:
                continue
            if value.const_value is not None and flow.is_single and not state.rows:
                flow.tables.append(Place(node, operand, TokenAxis(axis, state.first), None))
                continue
            if value.const_value is not None:
                return Refused(f"a constant has a number for each token ({value.name} at {node.op_type} {node.name})")
            return Refused(f"tokens from before are read again behind it ({node.op_type} {node.name})")
    places = axes.places(name)
    if not places:
        return _summed(flow, node, axes, name)
    for result, axis, label in places:
        value = node.outputs[result]
        if label.kind == "factor":
            rows = state.rows
        elif label.kind == "product" and label.factors[-1] == name and not state.rows:
            rows = True
        else:
            return Refused(f"tokens are joined with others, or laid out as a grid ({node.op_type} {node.name})")
        flow.carry(value, *flow.axes.get(value, ()), TokenAxis(axis, state.first, rows))
    return None


def _summed(flow: TokenFlow, node: ir.Node, axes: NodeAxes, name: str) -> Refused | None:
    """A node that sums over tokens: allowed for the MatMul of an attention's probabilities with its values."""
    carried = [
        (value, axis)
        for value, labels in zip(node.inputs, axes.inputs, strict=False)
        for axis, label in enumerate(labels or ())
        if value is not None and name in label.factors
    ]
    if is_op(node, "MatMul", "Einsum") and any(flow.probabilities.get(value) == axis for value, axis in carried):
        return None
    return Refused(f"{node.op_type} sums over the tokens without a Softmax over them ({node.name})")


def _probabilities_step(flow: TokenFlow, node: ir.Node, axes: NodeAxes) -> None:
    """Follow the axis of the keys in the probabilities of an attention."""
    given = [(k, v) for k, v in enumerate(node.inputs) if v is not None and v.const_value is None]
    if not is_op(node, *PASSES) or len(given) != 1 or given[0][1] not in flow.probabilities:
        return
    operand, value = given[0]
    labels = axes.inputs[operand]
    assert labels is not None
    for result, axis, label in axes.places(labels[flow.probabilities[value]].factors[0]):
        if label.kind == "factor":
            flow.probabilities[node.outputs[result]] = axis


def _batch_step(flow: TokenFlow, node: ir.Node, axes: NodeAxes) -> None:
    """Follow the axis of the samples; where it is lost, nothing is noted."""
    for value, labels in zip(node.inputs, axes.inputs, strict=False):
        axis = None if value is None else flow.batch.get(value)
        if axis is None or labels is None or labels[axis].kind != "factor":
            continue
        for result, at, label in axes.places(labels[axis].factors[0]):
            if label.kind == "factor":
                flow.batch.setdefault(node.outputs[result], at)
