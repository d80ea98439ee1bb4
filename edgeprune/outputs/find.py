"""Decide what each output of a model is, by its graph and its values on some samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgeprune.outputs.choices import chosen_rows
from edgeprune.outputs.class_scores import class_scores
from edgeprune.outputs.detection_heads import detections
from edgeprune.outputs.other_kinds import (
    boxes,
    coordinates,
    dense_map,
    embedding,
    integers,
    sorted_scores,
    state,
    tensor,
)
from edgeprune.outputs.output_spec import CLASS_SCORES, Array, Outputs, OutputSpec
from edgeprune.outputs.seen import Seen

_MATCHED = "its rows, which a choice has put in order, are matched with the original's"


def find_outputs(model: ir.Model, batches: Sequence[Sequence[Array]]) -> Outputs:
    """What the outputs of a model are.

    Args:
        model: the model; only the end of its graph is read.
        batches: for each batch of samples, the arrays of all outputs.

    Returns:
        A spec for each output, or for several that are judged together, in the order of the outputs.
    """
    names = [str(value.name) for value in model.graph.outputs]
    joined = [_joined([batch[i] for batch in batches]) for i in range(len(names))]
    seen = [Seen(*known) for known in zip(names, joined, model.graph.outputs, strict=True)]
    inputs = [(str(v.name), tuple(v.shape or ())) for v in model.graph.inputs]
    specs = _found(seen, inputs)
    rows = tuple(name for name in chosen_rows(model) if all(s.head is None for s in specs if name in s.names))
    said = (replace(s, why=f"{s.why}; {_MATCHED}") if set(s.names) <= set(rows) else s for s in specs)
    return Outputs(tuple(names), tuple(said), rows)


def outputs_of_values(arrays: Sequence[Array]) -> Outputs:
    """What outputs are by their values alone; they are named by their numbers."""
    seen = [Seen(str(number), array) for number, array in enumerate(arrays)]
    return Outputs(tuple(one.name for one in seen), _found(seen, []))


def _found(seen: Sequence[Seen], inputs: Sequence[tuple[str, tuple[object, ...]]]) -> tuple[OutputSpec, ...]:
    found = {name: spec for spec in detections(seen) for name in spec.names}
    rest = [one for one in seen if one.name not in found]
    known = {one.name: _known(one, inputs) for one in rest}
    # A layer that may give classes counts as such only where no other output surely does.
    sure = any(spec is not None and spec.kind == CLASS_SCORES for spec in known.values())
    for one in rest:
        spec = known[one.name]
        if spec is None and not sure and not any(map(one.is_called, ("boxes", "coordinates", "embedding", "map"))):
            spec = class_scores(one, sure=False)
        found[one.name] = spec or coordinates(one) or embedding(one) or dense_map(one) or tensor(one)
    return tuple(dict.fromkeys(found[one.name] for one in seen))


def _known(seen: Seen, inputs: Sequence[tuple[str, tuple[object, ...]]]) -> OutputSpec | None:
    """What the output is by strong evidence."""
    found = integers(seen) or sorted_scores(seen) or state(seen, inputs) or class_scores(seen)
    return found or _normed(seen) or boxes(seen)


def _normed(seen: Seen) -> OutputSpec | None:
    found = embedding(seen)
    return found if found is not None and found.why == "vectors of length 1" else None


def _joined(arrays: Sequence[Array]) -> Array:
    """All batches on the first axis; the first batch alone where other sizes depend on the data."""
    arrays = [np.atleast_1d(array) for array in arrays]
    fit = [array for array in arrays if array.shape[1:] == arrays[0].shape[1:]]
    return np.concatenate(fit)
