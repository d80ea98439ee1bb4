"""An opened model: the user's file, its canonical form, and the analysis of what can be cut."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph
from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.errors import UsageError
from edgeprune.passes.dequantize import float_source
from edgeprune.support import Progress

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A model as every command that rewrites it starts from.

    Attributes:
        path: the user's file.
        sha256: SHA-256 of that file, hexadecimal.
        original: the model as loaded.
        dense: its canonical form, to which every decision refers. Open dimensions stay open.
        fixed: ``dense`` with all input dimensions fixed, for measurements.
        analysis: the analysis of ``dense``.
        ranges: activation of ``dense`` -> (low, high), if the user's model quantizes it.
        note: what was done to a model that arrived quantized or in another float type; else empty.
    """

    path: Path
    sha256: str
    original: ir.Model
    dense: ir.Model
    fixed: ir.Model
    analysis: Analysis
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""


def open_model(
    path: Path, shapes: Shapes, progress: Progress, *, allow_statistic: bool = False, only_needed: bool = False
) -> OpenedModel:
    """Load, canonicalize and analyse a model; with ``only_needed``, float16 and Q/DQ pairs stay.

    Raises:
        ModelError: if it is not a valid model or cannot be canonicalized.
        UsageError: if ``shapes`` does not fit its inputs.
    """
    with progress.step("reading the model"):
        original = graph.load(path)
        sha256 = file_digest(path)
        check_shapes(original, shapes)
        source = float_source(original, only_needed=only_needed)
        dense = source.model
    with progress.step("finding what can be cut"):
        analysis = analyse(dense, allow_statistic=allow_statistic)
    return OpenedModel(path, sha256, original, dense, fix_shapes(dense, shapes), analysis, source.ranges, source.note)


def check_shapes(model: ir.Model, shapes: Shapes) -> None:
    """Refuse shapes of inputs that the model does not have.

    Raises:
        UsageError: the text names the input.
    """
    names = [str(v.name) for v in model.graph.inputs]
    for name in shapes:
        if name not in names:
            raise UsageError(f"--shape names {name!r}, which is not an input; the inputs are {', '.join(names)}")


def fix_shapes(model: ir.Model, shapes: Shapes) -> ir.Model:
    """A copy with every input dimension fixed by ``shapes``; an open batch becomes 1."""
    wanted = {str(v.name): fixed_dims(v, shapes.get(str(v.name))) for v in _data_inputs(model)}
    return graph.infer_shapes(graph.clone(model), wanted)


def fixed_dims(value: ir.Value, given: Sequence[int] | None) -> tuple[int, ...]:
    """Dimensions of an input for measurements.

    Raises:
        UsageError: if a dimension is open and not given.
    """
    if given is not None:
        return tuple(given)
    dims = [1 if i == 0 and not isinstance(d, int) else d for i, d in enumerate(value.shape or ())]
    if not all(isinstance(d, int) for d in dims):
        example = "x".join(str(d) if isinstance(d, int) else "64" for d in dims)
        raise UsageError(
            f"input {value.name!r} has open dimensions: fix them to measure, as in --shape {value.name}={example}"
        )
    return tuple(int(str(d)) for d in dims)


def _data_inputs(model: ir.Model) -> list[ir.Value]:
    return [v for v in model.graph.inputs if v.name not in model.graph.initializers]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
