"""A model that gives out inner values: what every statistic over activations is read through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.errors import ModelError


def with_outputs(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """A copy of the model whose outputs are the named values, without the nodes that none of them needs.

    Raises:
        ModelError: if a name is no value of the model's main graph.
    """
    copy = graph.clone(model)
    values = {v.name: v for v in (*copy.graph.inputs, *(o for n in copy.graph for o in n.outputs))}
    wanted = list(dict.fromkeys(names))
    if missing := [n for n in wanted if n not in values]:
        raise ModelError(f"the model has no value {missing[0]!r}")
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[n] for n in wanted)
    drop_unused(copy)
    return copy


def drop_unused(model: ir.Model) -> None:
    """Remove, in place, the nodes that no output needs, and their weights."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)


class IntermediateOutputs:
    """Runs a model and gives the named inner values, in onnxruntime, one thread, without lossy fusions."""

    def __init__(self, model: ir.Model, names: Iterable[str], threads: int = 1):
        self.names = tuple(dict.fromkeys(names))
        from edgeprune.backends import OnnxRuntime

        self._runner = OnnxRuntime(threads, spinning=False).load(with_outputs(model, self.names))
        self._inputs = {p.name for p in self._runner.inputs}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Value name -> array, for one batch."""
        outputs = self._runner.run({k: v for k, v in feeds.items() if k in self._inputs})
        return dict(zip(self.names, (np.asarray(o) for o in outputs), strict=True))
