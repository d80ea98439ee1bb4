"""An opened model: the user's file, its canonical form, and the analysis of what can be cut."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.dependency.fixed_sizes import Trial, analysed_at
from edgeprune.dependency.solve import Analysis
from edgeprune.errors import ModelError
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.dequantize import NO_BFLOAT16, Interface, Lift, float_source, in_bfloat16, with_interface
from edgeprune.passes.verify import InputSizes, check_sizes, settle_sizes
from edgeprune.support import Progress

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model as every command that rewrites it starts from.

    Attributes:
        path: the user's file.
        sha256: SHA-256 of that file, hexadecimal.
        original: the model as loaded.
        dense: its canonical form, to which every decision refers. Open dimensions stay open where they can.
        fixed: ``dense`` with all input dimensions fixed, for measurements.
        sizes: these dimensions, and where they come from.
        analysis: the analysis of ``dense``, at the user's sizes if that frees more.
        ranges: activation of ``dense`` -> (low, high), if the user's model quantizes it.
        lifted: whether ``dense`` is the float form of a quantized model.
        note: what was done to a model that arrived quantized or in another float type; else empty.
        size_note: what the given sizes decided beside the analysis; else empty.
        at_sizes: whether ``analysis`` is of the graph of ``fixed``, which frees more.
        reference: runs in place of a file that onnxruntime cannot run; then ``original`` is ``dense``.
        interface: inputs and outputs of the file that are bfloat16, and float32 in ``dense``.
        values: of small inputs that decide shapes.
    """

    path: Path
    sha256: str
    original: ir.Model
    dense: ir.Model
    fixed: ir.Model
    sizes: InputSizes
    analysis: Analysis
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""
    lifted: bool = False
    size_note: str = ""
    at_sizes: bool = False
    reference: ir.Model | None = None
    interface: Interface = NO_BFLOAT16
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def at_values(self, feeds: Mapping[str, NDArray[Any]]) -> OpenedModel:
        """The same, with the shapes that follow from the values of small inputs, such as a scale of a Resize.

        Args:
            feeds: one sample; sizes that the sizes of inputs do not tell are those of this sample.
        """
        values = {name: array for name, array in feeds.items() if array.size <= _MOST_DECIDING}
        fixed = _at_values(self.fixed, values)
        nodes = zip(self.fixed.graph, fixed.graph, strict=True)
        first = next((n for n, m in nodes if any(map(_differ, n.outputs, m.outputs))), None)
        if first is None:
            return self
        note = f"the sizes behind {first.op_type} {first.name!r} depend on the data, and are those of its first sample"
        said = "; ".join(filter(None, (self.size_note, note)))
        return replace(self, fixed=fixed, values=values, size_note=said)

    def sized(self, model: ir.Model) -> ir.Model:
        """A copy of a form of ``dense`` with the shapes that it has in ``fixed``."""
        shapes = {str(v.name): tuple(int(str(d)) for d in v.shape or ()) for v in self.fixed.graph.inputs}
        return _at_values(fix_shapes(model, shapes), self.values)

    @property
    def scored(self) -> Path | ir.Model:
        """What onnxruntime runs to tell what the user's model computes."""
        return self.path if self.reference is None else self.reference

    @property
    def timed(self) -> Path | ir.Model:
        """What onnxruntime runs to tell how long the user's model takes."""
        return self.path if self.reference is None else self.original

    def as_file(self, model: ir.Model, *, inside: bool = False) -> ir.Model:
        """A model as it is written: with the types of the file's inputs and outputs; with ``inside``, of all values."""
        return (in_bfloat16 if inside else with_interface)(model, self.interface)

    def sentences(self) -> tuple[str, ...]:
        """What a user has to know of the model: its sizes, and what was done to it."""
        said = (*self.sizes.sentences(), self.size_note, self.note, *graph.warnings_of(self.dense))
        return tuple(sentence for sentence in said if sentence)


_MOST_DECIDING = 16
"""A larger input holds no scales or lengths."""


def _at_values(model: ir.Model, values: Mapping[str, NDArray[Any]]) -> ir.Model:
    """A model of fixed sizes, with shapes that were unknown as they are if inputs have these values."""
    unknown = {str(v.name) for v in _computed(model) if graph.static_shape(v) is None}
    if not unknown or not values:
        return model
    bound = graph.clone(model)
    for value in [v for v in bound.graph.inputs if v.name in values]:
        constant = ir.tensor(values[str(value.name)], name=f"{value.name}_of_data")
        shape = ir.Shape(constant.shape.numpy())
        known = ir.Value(name=constant.name, shape=shape, type=value.type, const_value=constant)
        bound.graph.register_initializer(known)
        value.replace_all_uses_with(known)
    for value in bound.graph.outputs:
        value.shape = None
    try:
        settled = canonicalize(bound, verify=False)
    except ModelError:  # the sample's values do not fit the sizes that were chosen
        return model
    found = {str(v.name): v.shape for v in _computed(settled) if graph.static_shape(v)}
    sized = graph.clone(model)
    for value in _computed(sized):
        value.shape = found[str(value.name)] if value.name in unknown & found.keys() else value.shape
    return sized


def _differ(one: ir.Value, other: ir.Value) -> bool:
    return graph.static_shape(one) != graph.static_shape(other)


def _computed(model: ir.Model) -> list[ir.Value]:
    return [value for node in model.graph for value in node.outputs if value.name]


def open_model(
    path: Path,
    shapes: Shapes,
    progress: Progress,
    *,
    allow_statistic: bool = False,
    lift: Lift = "all",
    data: Callable[[ir.Model], Shapes] | None = None,
    fix_data: bool = False,
    trial: Trial | None = None,
) -> OpenedModel:
    """Load, canonicalize and analyse a model.

    Args:
        path: the ONNX file.
        shapes: input name -> dimensions, for inputs with open axes.
        progress: shows the progress.
        allow_statistic: also cut axes over which a normalization computes its statistics.
        lift: which models become float32; see `edgeprune.passes.dequantize.float_source`.
        data: the shapes of one sample for the canonical model; called if axes are open and not in ``shapes``. Sizes
            that it does not tell are proposed.
        fix_data: whether the result may take the sizes of the data alone, if more can be cut then. ``shapes`` always
            allow it.
        trial: see `edgeprune.dependency.fixed_sizes`.

    Raises:
        ModelError: if it is not a valid model or cannot be canonicalized.
        UsageError: if ``shapes`` does not fit its inputs.
    """
    with progress.step("reading the model"):
        original = graph.load(path)
        sha256 = file_digest(path)
        check_sizes(original, shapes)
        source = float_source(original, lift=lift)
        read = source.model
        sizes = settle_sizes(read, shapes, None if data is None else lambda: data(read))
    with progress.step("finding what can be cut"):
        found = analysed_at(
            original,
            source,
            sizes,
            allow_statistic=allow_statistic,
            lift=lift,
            may_fix=bool(shapes) or fix_data,
            trial=trial,
        )
    source, dense = found.source, found.source.model
    return OpenedModel(
        path,
        sha256,
        original if source.reference is None else dense,
        dense,
        fix_shapes(dense, sizes.shapes),
        sizes,
        found.analysis,
        source.ranges,
        source.note,
        source.lifted,
        found.note,
        found.at_sizes,
        source.reference,
        source.interface,
    )


def fix_shapes(model: ir.Model, shapes: Shapes) -> ir.Model:
    """A copy of the model with these sizes of its inputs."""
    return graph.infer_shapes(graph.clone(model), shapes)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
