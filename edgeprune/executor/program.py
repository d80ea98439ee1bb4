"""A program: the steps that compute a graph for inputs of given shapes.

It is recorded once. What is the same in every run is computed while recording: shapes, what follows from them, and what
follows from weights that are not trained. So a run computes only what depends on the data and on the trained weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir
import torch

from edgeprune.errors import ModelError
from edgeprune.executor.fusion import Fusion
from edgeprune.executor.registry import Call, Kernel, Tensor, operator_of

_SHAPE_READERS = ("Shape", "Size")


@dataclass(frozen=True, eq=False)
class Step:
    """One call: the slots of its arguments and results, and the slots that nothing reads afterwards."""

    run: Kernel
    arguments: tuple[int, ...]
    results: tuple[int, ...]
    dead: tuple[int, ...]
    node: str


@dataclass(eq=False)
class Program:
    """Steps over numbered slots.

    Attributes:
        slots: initial contents: constants, else None. Slot 0 is always None, for absent arguments.
        inputs: slot -> name of the input or parameter that fills it.
        steps: in order.
        outputs: name -> slot.
    """

    slots: list[Tensor | None]
    inputs: dict[int, str]
    steps: list[Step]
    outputs: dict[str, int]

    def run(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs, by name."""
        slots = list(self.slots)
        for slot, name in self.inputs.items():
            slots[slot] = given[name]
        for step in self.steps:
            found = step.run(*[slots[i] for i in step.arguments])
            if len(step.results) == 1:
                slots[step.results[0]] = found[0] if isinstance(found, tuple) else found
            else:
                for slot, value in zip(step.results, found, strict=False):
                    slots[slot] = value
            for slot in step.dead:
                slots[slot] = None
        return {name: slots[slot] for name, slot in self.outputs.items()}


@dataclass(eq=False)
class Recorder:
    """Records a program by running a graph once.

    Attributes:
        graph: the graph; every operator is in the table.
        opset: version of the default domain.
        device: where tensors are that depend on the data.
        constants: initializers that are not trained, on the host.
        prepared: initializers -> how each is computed from parameters: the names of these, and the function.
        fusions: last node of a group -> what computes the group at once.
    """

    graph: ir.Graph
    opset: int
    device: Any
    constants: Mapping[str, Tensor]
    prepared: Mapping[str, tuple[tuple[str, ...], Kernel]]
    fusions: Mapping[ir.Node, Fusion]
    _values: dict[ir.Value, Tensor] = field(default_factory=dict)
    _fixed: set[ir.Value] = field(default_factory=set)
    _unsized: set[ir.Value] = field(default_factory=set)
    _slots: list[Tensor | None] = field(default_factory=lambda: [None])
    _places: dict[tuple[ir.Value, bool], int] = field(default_factory=dict)
    _inputs: dict[int, str] = field(default_factory=dict)
    _steps: list[Step] = field(default_factory=list)

    def record(self, given: Mapping[str, Tensor], wanted: Sequence[ir.Value]) -> Program:
        """Run the graph on inputs and parameters, by name, and return the program for these shapes."""
        for value in self.graph.inputs:
            if value.name in given:
                self._enter(value, given[str(value.name)], str(value.name))
        self._initializers(given)
        order, last_use = self._needed(wanted)
        with torch.no_grad():
            for node in order:
                self._step(node)
                for value in last_use.get(node, ()):
                    if value not in self._fixed:
                        self._values.pop(value, None)
        outputs = {str(v.name): self._place(v, host=False) for v in wanted}
        return Program(self._slots, self._inputs, _with_dead(self._steps, set(outputs.values())), outputs)

    def _initializers(self, given: Mapping[str, Tensor]) -> None:
        parameters: dict[str, int] = {}
        for name, value in self.graph.initializers.items():
            if name not in self.prepared:
                self._values[value] = self.constants[name]
                self._fixed.add(value)
                continue
            names, run = self.prepared[name]
            for parameter in names:
                if parameter not in parameters:
                    parameters[parameter] = self._new_slot(None)
                    self._inputs[parameters[parameter]] = parameter
            with torch.no_grad():
                self._values[value] = run(*[given[p] for p in names])
            slot = self._places[value, False] = self._new_slot(None)
            self._steps.append(Step(run, tuple(parameters[p] for p in names), (slot,), (), name))

    def _needed(self, wanted: Sequence[ir.Value]) -> tuple[list[ir.Node], dict[ir.Node, list[ir.Value]]]:
        """Nodes to run in order, fused ones at the last of each group, and what is read for the last time at each."""
        covered = {n for last, fusion in self.fusions.items() for n in fusion.covers if n is not last}
        needed: set[ir.Value] = set(wanted)
        order: list[ir.Node] = []
        for node in reversed(list(self.graph)):
            if node in covered or not any(o in needed for o in node.outputs):
                continue
            order.append(node)
            needed.update(v for v in self._reads(node) if v is not None)
        order.reverse()
        last: dict[ir.Value, ir.Node] = {v: node for node in order for v in self._reads(node) if v is not None}
        by_node: dict[ir.Node, list[ir.Value]] = {}
        for value, node in last.items():
            if value not in wanted:
                by_node.setdefault(node, []).append(value)
        return order, by_node

    def _reads(self, node: ir.Node) -> Sequence[ir.Value | None]:
        fusion = self.fusions.get(node)
        return node.inputs if fusion is None else fusion.inputs

    def _step(self, node: ir.Node) -> None:
        reads = self._reads(node)
        values = tuple(None if v is None else self._values[v] for v in reads)
        constant = tuple(v is None or v in self._fixed for v in reads)
        fusion, operator = self.fusions.get(node), operator_of(node)
        if fusion is not None:
            run, fixed = fusion.run, all(constant)
            host: tuple[int, ...] = ()
            unsized = False
        else:
            assert operator is not None
            run = operator.bind(Call(node, self.opset, values, constant))
            host, unsized = operator.host, operator.unsized
            fixed = all(constant) and not operator.random
        sized = not any(v in self._unsized for v in reads if v is not None)
        unsized |= not sized or any(not constant[i] for i in host if i < len(constant))
        reads_shape = operator is not None and fusion is None and node.op_type in _SHAPE_READERS
        fixed = fixed or (reads_shape and sized)
        try:
            arguments = [v if fixed or i in host or v is None else v.to(self.device) for i, v in enumerate(values)]
            found = run(*arguments)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError) as error:
            raise ModelError(f"{node.op_type} {node.name!r} cannot be run in PyTorch: {error}") from error
        results = found if isinstance(found, tuple) else (found,)
        for value, result in zip(node.outputs, results, strict=False):
            self._values[value] = result
            if fixed:
                self._fixed.add(value)
            elif unsized:
                self._unsized.add(value)
        if fixed:
            return
        slots = tuple(0 if v is None else self._place(v, host=i in host) for i, v in enumerate(reads))
        places = []
        for value in node.outputs:
            places.append(self._new_slot(None))
            self._places[value, False] = self._places[value, True] = places[-1]
        self._steps.append(Step(run, slots, tuple(places), (), str(node.name)))

    def _place(self, value: ir.Value, *, host: bool) -> int:
        """The slot of a value; a constant has one for each memory that it is read in."""
        key = value, host and value in self._fixed
        if key not in self._places:
            tensor = self._values[value]
            self._places[key] = self._new_slot(tensor if host else tensor.to(self.device))
        return self._places[key]

    def _enter(self, value: ir.Value, tensor: Tensor, name: str) -> None:
        self._values[value] = tensor
        slot = self._new_slot(None)
        self._places[value, False] = self._places[value, True] = slot
        self._inputs[slot] = name

    def _new_slot(self, tensor: Tensor | None) -> int:
        self._slots.append(tensor)
        return len(self._slots) - 1


def _with_dead(steps: Iterable[Step], kept: set[int]) -> list[Step]:
    """The steps, each with the results of steps that nothing reads after it."""
    steps = list(steps)
    made = {slot for step in steps for slot in step.results}
    last: dict[int, int] = {}
    for number, step in enumerate(steps):
        for slot in (*step.arguments, *step.results):
            if slot in made and slot not in kept:
                last[slot] = number
    dead: dict[int, list[int]] = {}
    for slot, number in last.items():
        dead.setdefault(number, []).append(slot)
    return [Step(s.run, s.arguments, s.results, tuple(dead.get(i, ())), s.node) for i, s in enumerate(steps)]
