"""Run a cut model against the dense one: both must compute the same where the removed positions are not read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.dependency import Analysis, Cut
from edgeprune.errors import ModelError
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.verify import verify_equal


def verify_cut(
    dense: ir.Model,
    pruned: ir.Model,
    analysis: Analysis,
    cut: Cut,
    *,
    values: bool = True,
    sizes: graphs.InputShapes | None = None,
) -> bool:
    """Compare a pruned model with the dense one whose removed positions are zero where they are read.

    Args:
        dense: the canonical model that was analysed.
        pruned: what ``prune_channels`` made of it, before any weight was refitted.
        analysis: of ``dense``.
        cut: group id -> units that stay.
        values: whether values are compared, or shapes alone: a cut of axes over which a normalization computes its
            statistics changes values.
        sizes: input name -> dimensions at which they are compared in any case.

    Returns:
        Whether they were compared, at two sizes if axes are open. A cut that drops a whole residual branch is not, nor
        is a model that onnxruntime cannot run.

    Raises:
        ModelError: an output differs in shape, type or value.
    """
    if not all(len(units) for units in cut.values()):
        return False
    try:
        return verify_equal(masked(dense, analysis, cut), pruned, values=values, sizes=sizes)
    except ModelError as error:
        raise ModelError(f"pruning would change what the model computes, so nothing is written: {error}") from error


def try_cut(model: ir.Model, analysis: Analysis, sizes: graphs.InputShapes) -> None:
    """Cut half of every group of a model on trial, and compare the shapes of the outputs.

    Args:
        model: canonical.
        analysis: of this model, or of the same graph at fixed sizes.
        sizes: input name -> dimensions at which it runs; if axes are open, it is run at others too.

    Raises:
        ModelError, PassError: the analysis does not hold for the model.
    """
    cut = {g.id: np.arange(g.size - g.size // 2) for g in analysis.groups if g.size > 1}
    verify_cut(model, prune_channels(model, analysis, cut), analysis, cut, sizes=sizes)


def masked(model: ir.Model, analysis: Analysis, cut: Cut) -> ir.Model:
    """The dense model with zeros where consumers read removed positions."""
    dense = graphs.clone(model)
    arrays: dict[str, NDArray[Any]] = {}
    for (name, axis), kept in analysis.kept(cut).items():
        if analysis.roles.get((name, axis)) != "consumer":
            continue
        tensor = dense.graph.initializers[name].const_value
        assert tensor is not None
        array = arrays.setdefault(name, np.array(tensor.numpy()))
        removed = np.setdiff1d(np.arange(array.shape[axis]), kept)
        array[(slice(None),) * axis + (removed,)] = 0
    for name, array in arrays.items():
        old = dense.graph.initializers[name].const_value
        dense.graph.initializers[name].const_value = ir.tensor(
            array, dtype=old.dtype if old is not None else None, name=name
        )
    return dense
