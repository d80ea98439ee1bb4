"""The result of ``edgeprune inspect``: groups, frozen axes with the node that froze them, parameters and MACs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgeprune import graph
from edgeprune.dependency.fixed_sizes import Trial, analysed_at
from edgeprune.dependency.groups import Freeze, Group
from edgeprune.dependency.inspection_tables import FrozenRow, GroupRow, frozen_table, group_table, headline
from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.errors import ModelError, UsageError
from edgeprune.graph import count_macs, count_parameters
from edgeprune.passes.canonicalize import copied_vectors
from edgeprune.passes.dequantize import float_source
from edgeprune.passes.verify import settle_sizes
from edgeprune.support import or_nearest, plural

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Inspection:
    """The groups and frozen axes of a model.

    Attributes:
        file: the model's name.
        nodes: number of nodes of its canonical form.
        parameters: number of parameters in all initializers.
        macs: multiply-accumulates of one inference.
        groups: what can be removed, in graph order.
        frozen: axes of weights that cannot be cut, without those of length one.
        warnings: what was wrong in the file and was set right, and which shared vectors were copied, as sentences.
        analysis: the analysis of the model.
    """

    file: str
    nodes: int
    parameters: int
    macs: int
    groups: tuple[GroupRow, ...]
    frozen: tuple[FrozenRow, ...]
    analysis: Analysis = field(repr=False)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "schema": 1,
            "model": self.file,
            "nodes": self.nodes,
            "parameters": self.parameters,
            "macs": self.macs,
            "groups": [g.to_dict() for g in self.groups],
            "frozen": [f.to_dict() for f in self.frozen],
            "warnings": list(self.warnings),
        }

    def why(self, name: str) -> list[str]:
        """One line for each axis of a tensor: the groups that cut it, or the chain back to what froze it.

        A tensor that the canonical form split is answered part by part; a node by its weights and outputs; a group by
        its weights.

        Raises:
            ModelError: if the model has no such tensor, node or group; the text has the nearest names.
        """
        return [line for tensor in self._tensors(name) for line in self._why(tensor)]

    def _tensors(self, name: str) -> list[str]:
        axes = self.analysis.relations.axes
        if name in axes:
            return [name]
        if parts := [part for part in axes if re.fullmatch(rf"{re.escape(name)}_\d+", part)]:
            return parts
        if nodes := [node for node in self.analysis.relations.nodes if node.name == name]:
            read = [value for value in nodes[0].inputs if value is not None and value.is_initializer()]
            return [str(value.name) for value in (*read, *nodes[0].outputs) if value.name in axes]
        if groups := [group for group in self.groups if group.id == name]:
            return list(dict.fromkeys(tensor for tensor, _, _ in groups[0].tensors))
        weights = [row.tensor for row in self.frozen] + [tensor for g in self.groups for tensor, _, _ in g.tensors]
        named = [*weights, *(str(node.name) for node in self.analysis.relations.nodes), *axes]
        raise ModelError(f"the model has no tensor {name!r} of known shape{or_nearest(name, named)}")

    def _why(self, tensor: str) -> list[str]:
        lines = []
        for axis, factor in enumerate(self.analysis.relations.axes[tensor]):
            length = self.analysis.relations.sizes[factor]
            head = f"{tensor} axis {axis} (length {length if length >= 0 else 'dynamic'})"
            groups = [g for g in self.analysis.groups if any(m.value == tensor and m.axis == axis for m in g.members)]
            if groups:
                lines.append(f"{head}: cut by {', '.join(_spoken(g) for g in groups)}")
            else:
                lines.append(f"{head}: {spell_chain(self.analysis.why(tensor, axis))}")
        return lines

    def render(self, limit: int = 40) -> list[RenderableType]:
        """Tables for a terminal: at most ``limit`` groups, the largest first, and the causes of frozen axes."""
        head = headline(self.file, self.nodes, self.parameters, self.macs, self.groups)
        return [head, group_table(self.groups, limit), frozen_table(self.frozen, limit)]


def inspect_model(
    model: str | Path | ir.Model,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    allow_statistic: bool = False,
    trial: Trial | None = None,
) -> Inspection:
    """Analyse a model; it is run only to propose sizes of open inputs, and for a trial cut at given sizes.

    Args:
        model: the ONNX file, or a canonical model in memory.
        shapes: input name -> dimensions, for inputs with open dimensions.
        allow_statistic: also cut axes over which a normalization computes its statistics.
        trial: see `edgeprune.dependency.fixed_sizes`.

    Raises:
        ModelError: if the file is not a valid model.
        UsageError: if ``shapes`` does not fit the inputs.
    """
    if isinstance(model, ir.Model):
        return inspection_of(model, analyse(model, allow_statistic=allow_statistic), model.graph.name or "model")

    original = graph.load(model)
    source = float_source(original, verify=False)
    try:
        sizes = settle_sizes(source.model, shapes)
    except UsageError:  # it runs at no size that was tried, or those given are wrong; sizes only serve to count MACs
        sizes = settle_sizes(source.model, shapes, run=False)
    found = analysed_at(original, source, sizes, allow_statistic=allow_statistic, verify=False, trial=trial)
    canonical = found.source.model
    for sentence in (*sizes.sentences(), *([found.note] if found.note else ())):
        graph.add_warning(canonical, sentence)
    return inspection_of(canonical, found.analysis, Path(model).name, sizes.shapes)


def inspection_of(
    model: ir.Model, analysis: Analysis, name: str, shapes: Mapping[str, Sequence[int]] | None = None
) -> Inspection:
    """The inspection of a canonical model and its analysis; ``shapes`` fixes the inputs, to count MACs."""
    macs = count_macs(graph.infer_shapes(graph.clone(model), shapes) if shapes else model)
    readers = _readers(model, macs)
    sizes = {
        initializer: value.const_value.size
        for initializer, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    rows = tuple(_row(g, sizes, macs, readers) for g in analysis.groups)
    return Inspection(
        file=name,
        nodes=len(analysis.relations.nodes),
        parameters=count_parameters(model),
        macs=sum(macs.values()),
        groups=rows,
        frozen=tuple(_frozen_rows(model, analysis, macs, readers)),
        analysis=analysis,
        warnings=(*graph.warnings_of(model), *_copies(model)),
    )


def spell_chain(chain: list[Freeze] | tuple[Freeze, ...]) -> str:
    """A chain in one line: the reason, its node, and the nodes that lead to it from the tensor."""
    if not chain:
        return "can be cut"
    via = [step.node or "" for step in chain[:-1]]
    middle = f"; reached through {' → '.join(via if len(via) <= 4 else [*via[:2], '…', *via[-2:]])}" if via else ""
    return f"frozen: {chain[-1]}{middle}"


def _spoken(group: Group) -> str:
    return f"{group.id} ({plural(group.size, group.kind)})"


def _readers(model: ir.Model, macs: Mapping[str, int]) -> dict[str, list[str]]:
    """Value -> contractions that read or compute it."""
    out: dict[str, list[str]] = {}
    for node in model.graph:
        if node.name in macs:
            for value in (*node.inputs, *node.outputs):
                if value is not None and value.name and node.name:
                    out.setdefault(value.name, []).append(node.name)
    return out


def _row(group: Group, sizes: Mapping[str, int], macs: Mapping[str, int], readers: Mapping[str, list[str]]) -> GroupRow:
    share: dict[str, float] = {}
    work: dict[str, float] = {}
    tensors = []
    covered: dict[int, float] = {}
    for m in group.members:
        part = covered.setdefault(id(m.unit), float((m.unit >= 0).mean()))
        if m.role != "activation":
            share[m.value] = 1 - (1 - share.get(m.value, 0.0)) * (1 - part)
            tensors.append((m.value, m.axis, str(m.role)))
        for node in readers.get(m.value, ()):
            work[node] = max(work.get(node, 0.0), part)
    return GroupRow(
        id=group.id,
        kind=group.kind,
        size=group.size,
        parameters=round(sum(sizes.get(name, 0) * part for name, part in share.items())),
        macs=round(sum(macs[node] * part for node, part in work.items())),
        tensors=tuple(tensors),
    )


def _frozen_rows(
    model: ir.Model, analysis: Analysis, macs: Mapping[str, int], readers: Mapping[str, list[str]]
) -> list[FrozenRow]:
    rows = []
    for name, value in model.graph.initializers.items():
        if value.dtype is None or not value.dtype.is_floating_point():
            continue
        held = sum(macs[node] for node in readers.get(name, ()))
        for axis, factor in enumerate(analysis.relations.axes.get(name, ())):
            length = analysis.relations.sizes[factor]
            if length > 1 and analysis.is_frozen(factor):
                rows.append(FrozenRow(name, axis, length, tuple(analysis.why(name, axis)), held))
    return rows


def _copies(model: ir.Model) -> Iterator[str]:
    """What is said of vectors that the file stores once for layers that have nothing to do with each other."""
    counts = Counter(copied_vectors(model))
    if not counts:
        return
    (name, count), others = counts.most_common(1)[0], len(counts) - 1
    more = f", and {plural(others, 'other vector')} in the same way" if others else ""
    yield (
        f"{name!r} is stored once for {count + 1} places that are no calls of one layer{more}: each place has its own "
        "copy here, so that channels can be removed from one alone"
    )
