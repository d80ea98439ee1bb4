"""What can be cut at the sizes that a user fixes, where that is more than in the model with open axes.

The axes of the result stay open if a trial cut of the open model computes the same. Else all but the batch are fixed,
or all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune import graph
from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.errors import ModelError, PassError
from edgeprune.graph import InputShapes
from edgeprune.passes.dequantize import FloatSource, Lift, float_source
from edgeprune.passes.verify import InputSizes, spelled

Trial = Callable[[ir.Model, Analysis, InputShapes], None]
"""Cuts a canonical model; raises ModelError or PassError if the result does not compute the same."""

_WORTH = 0.005
"""Share of the MACs that must be freed: below it, the axes of the user's model are not touched."""


@dataclass(frozen=True, eq=False)
class Analysed:
    """A canonical model with its analysis.

    Attributes:
        source: the model.
        analysis: of it.
        note: a sentence on what its sizes decided beside the analysis; empty if nothing.
        at_sizes: whether the axes of the model are open, and the analysis is at fixed sizes.
    """

    source: FloatSource
    analysis: Analysis
    note: str = ""
    at_sizes: bool = False


def analysed_at(
    original: ir.Model,
    source: FloatSource,
    sizes: InputSizes,
    *,
    allow_statistic: bool = False,
    lift: Lift = "all",
    may_fix: bool = True,
    verify: bool = True,
    trial: Trial | None = None,
) -> Analysed:
    """The analysis of the open model, or one at fixed sizes if that frees more.

    Args:
        original: as loaded.
        source: its canonical float form.
        sizes: of all inputs. Proposed ones decide nothing.
        allow_statistic: as in `open_model`.
        lift: as in `open_model`.
        may_fix: whether the result may take these sizes alone. Without it, it stays open.
        verify: whether a model whose axes become fixed is compared with the original.
        trial: tries whether the open model can be cut as its analysis at fixed sizes says; without one it is believed.
    """
    opened = Analysed(source, analyse(source.model, allow_statistic=allow_statistic))
    if not graph.open_axes(source.model) or not {"given", "data"}.intersection(sizes.origins.values()):
        return opened
    whole = _fixed(original, sizes.shapes, keep_batch=False)
    closed = _analysed(whole, allow_statistic, lift)
    most, least = (_free_share(found, sizes.shapes) for found in (closed, opened))
    if most - least < _WORTH:
        return opened
    view = graph.infer_shapes(graph.clone(source.model), sizes.shapes)
    seen = Analysed(source, analyse(view, allow_statistic=allow_statistic), at_sizes=True)
    share = _free_share(seen, sizes.shapes)
    if share - least >= _WORTH and (not may_fix or most - share < _WORTH) and _holds(seen, sizes, trial):
        return seen
    shown = ", ".join(f"{name}={spelled(dims)}" for name, dims in sizes.shapes.items())
    if not may_fix:
        note = f"{most - least:.0%} more of the MACs can be cut in a model of fixed sizes: give --shape {shown}"
        return Analysed(source, opened.analysis, note)
    for keep_batch in (True, False):
        model = _fixed(original, sizes.shapes, keep_batch=keep_batch)
        found = _analysed(model, allow_statistic, lift, verify=verify) if keep_batch or verify else closed
        if most - _free_share(found, sizes.shapes) < _WORTH and _holds(found, sizes, trial):
            left = "batches of any size, and else " if keep_batch and graph.open_axes(found.source.model) else ""
            note = (
                f"the result takes {left}only {shown}: other sizes would forbid to cut {most - least:.0%} of the MACs"
            )
            return Analysed(found.source, found.analysis, note)
    return opened


def _analysed(model: ir.Model, allow_statistic: bool, lift: Lift, *, verify: bool = False) -> Analysed:
    source = float_source(model, verify=verify, lift=lift)
    return Analysed(source, analyse(source.model, allow_statistic=allow_statistic))


def _holds(found: Analysed, sizes: InputSizes, trial: Trial | None) -> bool:
    try:
        if trial is not None:
            trial(found.source.model, found.analysis, sizes.shapes)
    except (ModelError, PassError):
        return False
    return True


def _fixed(model: ir.Model, shapes: InputShapes, *, keep_batch: bool) -> ir.Model:
    """A copy with these sizes of its inputs; with ``keep_batch``, an open batch stays open."""
    copy = graph.clone(model)
    batches = graph.batch_axes(model) if keep_batch else {}
    for value in graph.data_inputs(copy):
        name = str(value.name)
        dims = enumerate(zip(value.shape or (), shapes[name], strict=False))
        value.shape = ir.Shape([d if axis == batches.get(name) else size for axis, (d, size) in dims])
    return graph.infer_shapes(copy, keep=False)


def _free_share(found: Analysed, shapes: InputShapes) -> float:
    """The share of the model's MACs whose weights can be cut, each axis by the share of its positions."""
    model = found.source.model
    macs = graph.count_macs(graph.infer_shapes(graph.clone(model), shapes))
    free: dict[str, dict[int, float]] = {}
    for group in found.analysis.groups:
        for member in group.members:
            axes = free.setdefault(member.value, {})
            axes[member.axis] = axes.get(member.axis, 0.0) + float((member.unit >= 0).mean())
    held = 0.0
    for node in model.graph:
        if node.name in macs:
            shares = [min(1.0, s) for v in node.inputs if v is not None for s in free.get(str(v.name), {}).values()]
            held += macs[str(node.name)] * sum(shares) / 2
    return held / max(1, sum(macs.values()))
