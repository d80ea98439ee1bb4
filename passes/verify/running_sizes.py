"""Concrete sizes at which a model with open axes runs, found by running it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.graph import InputShapes, batch_axes, open_axes, size_candidates
from edgeprune.passes.verify.random_inputs import random_feeds
from edgeprune.passes.verify.sessions import run, session

if TYPE_CHECKING:
    import onnxruntime

_OTHER_BATCHES = (1, 2)
"""A model may be exported for one batch although it declares it open."""

_MOST_LIKE = 6
"""Candidates that repeat a size wait for one that does not."""


def running_sizes(
    model: ir.Model,
    given: Mapping[str, Sequence[int]] | None = None,
    *,
    batches: Sequence[int] = (1,),
    typical: bool = False,
    runner: onnxruntime.InferenceSession | None = None,
) -> list[InputShapes]:
    """Shapes of all inputs with which the model runs in onnxruntime; the first that do, in the order of plausibility.

    Args:
        model: not changed. Equal symbols get equal sizes.
        given: input name -> dimensions that are fixed already.
        batches: sizes of an open batch, one for each result wanted. Other open axes differ between results where
            the model runs at several sizes.
        typical: sizes that such networks are used at come first, else small ones.
        runner: a session of the model, if one is open.

    Returns:
        At least one and at most ``len(batches)`` shapes, without repetitions; one if no axis is open.

    Raises:
        ModelError: onnxruntime does not accept the model, an input is no tensor of numbers, or the model runs at none
            of the sizes that were tried; the text gives onnxruntime's reason for the first.
    """
    runner = runner or session(model)
    names = [value.name or "" for value in model.graph.outputs]
    found: list[InputShapes] = []
    refused: tuple[InputShapes, ModelError] | None = None
    for shapes in _candidates(model, given or {}, batches, found, typical):
        feeds = random_feeds(model, shapes, seed=0)
        if feeds is None:
            raise ModelError("an input of the model is not a tensor of numbers")
        try:
            run(runner, names, feeds)
        except ModelError as error:
            refused = refused or (shapes, error)
            continue
        found.append(shapes)
    if found or refused is None:
        return found
    shapes, why = refused
    first = ", ".join(f"{name}={'x'.join(map(str, dims))}" for name, dims in shapes.items())
    raise ModelError(f"the model runs at none of the sizes that were tried; at {first}: {why}")


def _candidates(
    model: ir.Model,
    given: Mapping[str, Sequence[int]],
    batches: Sequence[int],
    found: list[InputShapes],
    typical: bool,
) -> Iterator[InputShapes]:
    """Candidates until there is one result for every batch; ``found`` grows while they are tried."""
    where = [(name, axis) for name, axis in open_axes(model) if name not in given]
    if not where:
        yield next(size_candidates(model, given))
        return
    batch_axis = batch_axes(model)
    where = [(name, axis) for name, axis in where if axis != batch_axis[name]]
    for wanted, batch in enumerate(batches, 1):
        for size in dict.fromkeys((batch, *_OTHER_BATCHES)):
            candidates = size_candidates(model, given, batch=size, typical=typical, batches=batch_axis)
            for shapes in _different_first(candidates, where, found):
                if shapes not in found:
                    yield shapes
                if len(found) >= wanted:
                    break
            if len(found) >= wanted:
                break


def _different_first(
    candidates: Iterator[InputShapes], where: list[tuple[str, int]], found: list[InputShapes]
) -> Iterator[InputShapes]:
    """Candidates in which no open axis has the size that it has in those found come first."""
    rest: list[InputShapes] = []
    for shapes in candidates:
        if len(rest) < _MOST_LIKE and any(shapes[name][axis] == f[name][axis] for f in found for name, axis in where):
            rest.append(shapes)
        else:
            yield shapes
    yield from rest
