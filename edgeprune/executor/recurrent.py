"""Recurrent layers, step by step: PyTorch's own have other gates, activations and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from edgeprune.errors import ModelError
from edgeprune.executor.registry import Call, Kernel, Tensor, op

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softsign": functional.softsign,
    "softplus": functional.softplus,
}

Cell = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]
"""(What the input adds, states) -> new states, the output first."""


@op("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> Kernel:
    """Forward, reverse or both ways; sequences may differ in length."""
    name, direction = call.node.op_type, call.text("direction", "forward")
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[name]
    batch_first, hidden = bool(call.integer("layout", 0)), call.integer("hidden_size", 0)
    ways = 2 if direction == "bidirectional" else 1
    functions = _functions(call, {"LSTM": 3, "GRU": 2, "RNN": 1}[name], ways)
    clip = call.attributes.get("clip")
    linear_before = bool(call.integer("linear_before_reset", 0))
    if clip is not None or call.integer("input_forget", 0):
        raise ModelError(f"{name} {call.node.name!r} has clip or input_forget, which cannot be run in PyTorch")
    outputs = len(call.node.outputs)

    def kernel(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: Tensor | None = None,
        first: Tensor | None = None,
        cell: Tensor | None = None,
        peephole: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        x = x.transpose(0, 1) if batch_first else x
        batch = x.shape[1]
        zero = x.new_zeros(batch, hidden)
        every, last = [], []
        for way in range(ways):
            backwards = direction == "reverse" or way == 1
            states = []
            for given in (first, cell)[: 2 if name == "LSTM" else 1]:
                one = given if given is None or not batch_first else given.transpose(0, 1)
                states.append(zero if one is None else one[way])
            bias = x.new_zeros(2 * gates * hidden) if b is None else b[way]
            inner, outer = bias[: gates * hidden], bias[gates * hidden :]
            entered = functional.linear(x, w[way], inner)
            peep = None if peephole is None else peephole[way].chunk(3)
            run = _CELLS[name](r[way], outer, functions[way], linear_before, peep)
            found, ended = _unrolled(entered, tuple(states), run, lengths, backwards)
            every.append(found)
            last.append(ended)
        y = torch.stack(every, 1)
        ends = [torch.stack(parts) for parts in zip(*last, strict=True)]
        if batch_first:
            y, ends = y.permute(2, 0, 1, 3), [e.transpose(0, 1) for e in ends]
        return (y, *ends)[:outputs]

    return kernel


def _functions(call: Call, count: int, ways: int) -> list[list[Callable[[Tensor], Tensor]]]:
    """The activations of every direction."""
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[call.node.op_type]
    given = call.attributes.get("activations")
    names = [str(n) for n in given.as_strings()] if given is not None else usual * ways
    unknown = [n for n in names if n.lower() not in _ACTIVATIONS]
    if unknown:
        raise ModelError(f"{call.node.op_type} {call.node.name!r} has the activation {unknown[0]}, which is not known")
    every = [_ACTIVATIONS[n.lower()] for n in names]
    return [every[i * count : (i + 1) * count] for i in range(ways)]


def _unrolled(
    entered: Tensor, states: tuple[Tensor, ...], run: Cell, lengths: Tensor | None, backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The outputs of all steps, and the states after the last; a sequence that has ended keeps its states."""
    steps = len(entered)
    found: list[Tensor] = [entered[:0]] * steps
    for step in reversed(range(steps)) if backwards else range(steps):
        new = run(entered[step], states)
        if lengths is not None:
            alive = (lengths.to(entered.device) > step)[:, None]
            states = tuple(torch.where(alive, n, s) for n, s in zip(new, states, strict=True))
            found[step] = torch.where(alive, new[0], torch.zeros_like(new[0]))
        else:
            states, found[step] = new, new[0]
    return torch.stack(found), states


def _lstm(
    r: Tensor, bias: Tensor, f: Sequence[Callable[[Tensor], Tensor]], _: bool, peep: Sequence[Tensor] | None
) -> Cell:
    """Hochreiter & Schmidhuber 1997; gates in ONNX's order: input, output, forget, cell."""

    def cell(x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = states
        i, o, forget, g = (x + functional.linear(h, r, bias)).chunk(4, -1)
        if peep is not None:
            i, forget = i + peep[0] * c, forget + peep[2] * c
        c = f[0](forget) * c + f[0](i) * f[1](g)
        o = o if peep is None else o + peep[1] * c
        return f[0](o) * f[2](c), c

    return cell


def _gru(
    r: Tensor, bias: Tensor, f: Sequence[Callable[[Tensor], Tensor]], linear: bool, _: Sequence[Tensor] | None
) -> Cell:
    """Cho et al. 2014; gates in ONNX's order: update, reset, hidden."""
    hidden = r.shape[-1]

    def cell(x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,) = states
        z, reset = (x[:, : 2 * hidden] + functional.linear(h, r[: 2 * hidden], bias[: 2 * hidden])).chunk(2, -1)
        z, reset, into = f[0](z), f[0](reset), x[:, 2 * hidden :]
        weight, shift = r[2 * hidden :], bias[2 * hidden :]
        inner = reset * functional.linear(h, weight, shift) if linear else functional.linear(reset * h, weight, shift)
        return ((1 - z) * f[1](into + inner) + z * h,)

    return cell


def _rnn(
    r: Tensor, bias: Tensor, f: Sequence[Callable[[Tensor], Tensor]], _: bool, __: Sequence[Tensor] | None
) -> Cell:
    """Elman 1990."""
    return lambda x, states: (f[0](x + functional.linear(states[0], r, bias)),)


_CELLS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
