"""A copy of a model that also returns inner values: all statistics over activations use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.errors import ModelError


def with_outputs(model: ir.Model, names: Iterable[str], inputs: Iterable[str] | None = None) -> ir.Model:
    """A copy of the model whose outputs are the named values, without the nodes that none of them needs.

    Args:
        model: the model.
        names: the outputs of the copy.
        inputs: the inputs of the copy, values from which the outputs are computed; default: those of the model.

    Raises:
        ModelError: a name is not a value of the model's main graph.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    copy = graph.clone(model)
    values = {v.name: v for v in (*copy.graph.inputs, *(o for n in copy.graph for o in n.outputs))}
    wanted = list(dict.fromkeys(names))
    if missing := [n for n in wanted if n not in values]:
        raise ModelError(f"the model has no value {missing[0]!r}")
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[n] for n in wanted)
    if inputs is not None:
        copy.graph.inputs.clear()
        copy.graph.inputs.extend(_cut_before(values[name]) for name in inputs)
    RemoveUnusedNodesPass()(copy)
    return copy


def _cut_before(value: ir.Value) -> ir.Value:
    """A value without a producer, in its place for all readers."""
    cut = ir.Value(name=value.name, shape=value.shape, type=value.type)
    value.name = f"{value.name}/replaced"
    for reader, index in tuple(value.uses()):
        reader.replace_input_with(index, cut)
    return cut


class IntermediateOutputs:
    """Runs a model in onnxruntime and returns the named inner values."""

    def __init__(self, model: ir.Model, names: Iterable[str], threads: int = 1):
        self.names = tuple(dict.fromkeys(names))
        from edgeprune.backends import OnnxRuntime

        self._runner = OnnxRuntime(threads, spinning=False).load(with_outputs(model, self.names))
        self._inputs = {p.name for p in self._runner.inputs}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The named values of one batch, by name."""
        outputs = self._runner.run({k: v for k, v in feeds.items() if k in self._inputs})
        return dict(zip(self.names, (np.asarray(o) for o in outputs), strict=True))
