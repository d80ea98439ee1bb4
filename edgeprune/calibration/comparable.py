"""Copies of a model and of its changed forms that can be compared value by value: without choices of positions.

`edgeprune.outputs.choices` says what is compared. Outputs that a choice gives are replaced by what it chooses from. The
result of a choice inside becomes an input, which is fed with the original's. So row 7 is the same query in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import OnnxRuntime
from edgeprune.calibration.batch_axes import measured_axes
from edgeprune.calibration.calibration import Calibration
from edgeprune.calibration.model_outputs import outputs_of
from edgeprune.calibration.run import Run
from edgeprune.calibration.sources import Feeds, InputSpec, Source
from edgeprune.graph import with_outputs
from edgeprune.outputs import ROWS, Outputs, Place, find_choices, find_outputs


class Comparable(Protocol):
    """What networks are compared by; for most models, they and their data as they are."""

    def of(self, model: ir.Model) -> ir.Model:
        """A copy of the original or of a changed form that returns what is compared; maybe the model itself."""

    def data(self, samples: Calibration) -> Calibration:
        """The same samples with the original's choices as further inputs."""


@dataclass(frozen=True)
class _AsItIs:
    def of(self, model: ir.Model) -> ir.Model:
        return model

    def data(self, samples: Calibration) -> Calibration:
        return samples


@dataclass(frozen=True)
class _BeforeChoices:
    """See `Comparable`.

    Attributes:
        places: what is compared.
        positions: output -> its number.
        outputs: what the compared values are.
        axes: the axis of the samples of each of them.
        chosen: the results of choices that become inputs.
        choose: gives them for a batch, as the original chooses.
    """

    places: tuple[Place, ...]
    positions: Mapping[str, int]
    outputs: Outputs
    axes: Mapping[str, int]
    chosen: tuple[InputSpec, ...]
    choose: Run | None

    def of(self, model: ir.Model) -> ir.Model:
        nodes = {str(node.name): node for node in model.graph}
        names = []
        for place in self.places:
            value: ir.Value | None = None
            if place.index < 0:
                value = model.graph.outputs[self.positions[place.value]]
            elif place.node in nodes and place.index < len(nodes[place.node].inputs):
                value = nodes[place.node].inputs[place.index]
            names.append(place.value if value is None else str(value.name))
        return with_outputs(model, names, [*(str(v.name) for v in model.graph.inputs), *(s.name for s in self.chosen)])

    def data(self, samples: Calibration) -> Calibration:
        source, specs, axes = samples.source, samples.specs, replace(samples.axes, outputs=self.axes)
        if self.choose is not None:
            source, specs = _Chosen(source, self.chosen, self.choose), (*specs, *self.chosen)
            axes = replace(axes, inputs={**axes.inputs, **{spec.name: 0 for spec in self.chosen}})
        return replace(samples, source=source, specs=specs, axes=axes, outputs=self.outputs)


@dataclass(frozen=True)
class _Chosen:
    """A source whose feeds have the original's choices, too."""

    source: Source
    chosen: tuple[InputSpec, ...]
    choose: Run

    @property
    def items(self) -> int:
        return self.source.items

    @property
    def samples(self) -> int:
        return self.source.samples

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        return (*self.source.specs, *self.chosen)

    @property
    def joins_items(self) -> bool:
        return self.source.joins_items

    def describe(self) -> str:
        return self.source.describe()

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        for feeds in self.source.read(chosen, items_per_batch):
            yield {**feeds, **dict(zip([s.name for s in self.chosen], self.choose(feeds), strict=True))}


def open_comparable(model: ir.Model, data: Calibration, without: frozenset[str] = frozenset()) -> Comparable:
    """How changed forms of a model are compared with it.

    Args:
        model: the original; its nodes have names.
        data: samples for it, which know the user's choice of outputs, if there is one.
        without: results of choices that are computed, not given.
    """
    choices = find_choices(model)
    if not choices.any:
        return _AsItIs()
    known = outputs_of(model, data)
    inside = {}
    if any(known.spec_of(name).kind in ROWS for name in known.names):
        inside = {
            name: places for name, places in choices.inside.items() if name not in without and _fits(model, name, data)
        }
    places: dict[str, Place] = {}
    weights: dict[str, float] = {}

    def count(found: Sequence[Place], weight: float) -> None:
        for place in found:
            places.setdefault(place.value, place)
            weights[place.value] = weights.get(place.value, 0.0) + weight / len(found)

    for name, found in choices.compared.items():
        count(found, known.share_of(name))
    for found in inside.values():  # what a choice is made by counts as one more output
        count(found, 1 / len(known.names))
    if not inside and not any(place.index >= 0 for place in places.values()):
        return _AsItIs()
    specs = tuple(_input_spec(model, name) for name in inside)
    choose = OnnxRuntime().load(with_outputs(model, inside)).run if inside else None
    positions = {name: number for number, name in enumerate(known.names)}
    made = _BeforeChoices(tuple(places.values()), positions, Outputs(tuple(places), ()), {}, specs, choose)
    made_inside = {str(o.name) for node in made.of(model).graph for o in node.outputs}
    if clash := made_inside.intersection(inside):  # the values that were chosen are used as well: in their own order
        return open_comparable(model, data, without | clash)
    return _with_kinds(made, model, data, known, weights)


def _with_kinds(
    made: _BeforeChoices, model: ir.Model, data: Calibration, known: Outputs, weights: Mapping[str, float]
) -> _BeforeChoices:
    """The same, with what the compared values are, and where they have their samples."""
    view = made.of(model)
    few = made.data(data.subset(_LOOKED_AT))
    run = OnnxRuntime().load(view).run
    kinds = find_outputs(view, [list(run(feeds)) for feeds in few.batches(_LOOKED_AT)])
    specs = []
    for place in made.places:
        spec = known.spec_of(place.value) if place.index < 0 else kinds.spec_of(place.value)
        specs.append(replace(spec, names=(place.value,), weight=weights[place.value], head=None))
    two = [dict(feeds) for feeds in made.data(data.subset(2)).batches(1)]
    axes = measured_axes(view, few.specs, two[: 2 if data.batchable else 1]).outputs
    return replace(made, outputs=Outputs(made.outputs.names, tuple(specs)), axes=axes)


def _fits(model: ir.Model, name: str, data: Calibration) -> bool:
    """Whether the result of a choice can be an input: with its samples on the first axis, if they are joined."""
    if not data.batchable:
        return True
    run = OnnxRuntime().load(with_outputs(model, [name])).run
    return all(len(run(feeds)[0]) == data.rows(feeds) for feeds in data.subset(2).batches(2))


def _input_spec(model: ir.Model, name: str) -> InputSpec:
    value = next(o for node in model.graph for o in node.outputs if o.name == name)
    return InputSpec(name, np.dtype(np.int64), tuple(d if isinstance(d, int) else None for d in value.shape or ()))


_LOOKED_AT = 8
"""Samples on which the compared values are looked at."""
