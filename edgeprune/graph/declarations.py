"""Declared shapes of computed values: set aside when a file is read, and held against what the model computes.

Tools that edit a file leave old declarations in it, and runtimes only warn of them. So no declared shape of a computed
value is used: what inference derives counts. Only the outputs of custom operators keep theirs, since nothing else tells
their shapes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx_ir as ir

from edgeprune.graph.edit import ONNX_DOMAINS, dim_keys, find_value
from edgeprune.graph.shape_refinement import named
from edgeprune.lengths import Dim

Dims = tuple[Dim, ...]
Declared = Mapping[str, Dims]

_UNKNOWN_SIZES = frozenset({"?", "*", "-1", "None"})
"""Names that exporters give to all sizes that they do not know."""
_DECLARED, _WARNINGS = "edgeprune.declared", "edgeprune.warnings"


def clear_unknown_sizes(graph: onnx.GraphProto) -> None:
    """Some exporters write -1 for an unknown size, or give all unknown sizes one name, as if they were equal."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.ClearField("dim_value")
            if dim.dim_param in _UNKNOWN_SIZES:
                dim.ClearField("dim_param")


def declare_as_stored(graph: onnx.GraphProto) -> list[str]:
    """Give weights that are listed as inputs too, in place, the type of the stored tensor; returns warnings."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    warnings = []
    for info in graph.input:
        tensor = stored.get(info.name)
        if tensor is None:
            continue
        declared = tuple(_dim(dim) for dim in info.type.tensor_type.shape.dim)
        if info.type.tensor_type.HasField("shape") and _contradict(declared, tuple(tensor.dims)):
            stated, own = _text(declared), _text(tuple(tensor.dims))
            warnings.append(
                f"the file declares the weight {info.name!r} as {stated}, but it is {own}: the declaration is not used"
            )
        info.type.CopyFrom(onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims))
    return warnings


def set_aside(graph: onnx.GraphProto) -> dict[str, Dims]:
    """Remove, in place, the declared shapes of computed values, also in bodies; returns those of this graph by name."""
    custom = {name for node in graph.node if node.domain not in ONNX_DOMAINS for name in node.output}
    given = {info.name for info in graph.input} | {tensor.name for tensor in graph.initializer}
    found: dict[str, Dims] = {}
    for info in (*graph.value_info, *graph.output):
        tensor = info.type.tensor_type
        if info.name in custom | given or not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
            continue
        found[info.name] = tuple(_dim(dim) for dim in tensor.shape.dim)
        tensor.ClearField("shape")
    for body in _bodies(graph):
        set_aside(body)
    return found


def _bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    return dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None


def compare_with_inferred(model: ir.Model, declared: Declared) -> None:
    """Note a warning for every declared shape that the inferred one contradicts, and remember the outputs' others."""
    outputs = {value.name for value in model.graph.outputs}
    model.graph.meta[_DECLARED] = {name: dims for name, dims in declared.items() if name in outputs}
    values = {value.name: value for node in model.graph for value in node.outputs if value.name in declared}
    for name, value in values.items():
        derived = dim_keys(value)
        if derived is not None and _contradict(declared[str(name)], derived):
            _note(model, str(name), declared[str(name)], derived, "the graph makes it")


def compare_with_results(model: ir.Model, results: Mapping[str, Sequence[int]]) -> None:
    """Hold the outputs of a run against their declarations; a rank that inference did not derive is taken from it.

    Args:
        model: whose notes and output shapes are changed, in place.
        results: output name -> its shape in one run.
    """
    for name, dims in results.items():
        value = find_value(model.graph, name)
        if value is not None and value.shape is None:
            value.shape = ir.Shape([None] * len(dims))
        declared = declared_outputs(model).get(name)
        if declared is not None and _contradict(declared, tuple(dims)):
            _note(model, name, declared, tuple(dims), "a run gives it")


def declared_outputs(model: ir.Model) -> Declared:
    """Output name -> the shape that the file declares, if nothing contradicts it."""
    found: Declared = model.graph.meta.get(_DECLARED, {})
    return found


def warnings_of(model: ir.Model) -> tuple[str, ...]:
    """What was found wrong in the file and set right, as sentences."""
    found: tuple[str, ...] = model.graph.meta.get(_WARNINGS, ())
    return found


def add_warning(model: ir.Model, text: str) -> None:
    """Note what was found wrong in the file and set right; each sentence is kept once."""
    if text not in warnings_of(model):
        model.graph.meta[_WARNINGS] = (*warnings_of(model), text)


@contextlib.contextmanager
def as_declared(model: ir.Model) -> Iterator[None]:
    """Inside this context, what inference leaves open in the outputs' shapes is as the file declares it."""
    before = [(value, value.shape) for value in model.graph.outputs]
    try:
        for value, _ in before:
            declared = declared_outputs(model).get(str(value.name))
            own = dim_keys(value) if value.shape is not None else (None,) * len(declared or ())
            if declared is not None and own is not None and len(own) == len(declared):
                value.shape = ir.Shape([_written(a, b) for a, b in zip(own, declared, strict=True)])
        yield
    finally:
        for value, shape in before:
            value.shape = shape


def _written(own: Dim, declared: Dim) -> Dim:
    """The length to write for an output: a number if it is derived, else the user's name of it."""
    return own if isinstance(own, int) or (isinstance(declared, int) and named(own)) else declared


def _contradict(declared: Dims, found: Dims) -> bool:
    """Whether the ranks or two numbers differ; a name fits every size."""
    if len(declared) != len(found):
        return True
    return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(declared, found, strict=True))


def _note(model: ir.Model, name: str, declared: Dims, found: Dims, source: str) -> None:
    add_warning(
        model,
        f"the file declares {name!r} as {_text(declared)}, but {source} {_text(found)}: the declaration is not used",
    )
    left = {key: dims for key, dims in declared_outputs(model).items() if key != name}
    model.graph.meta[_DECLARED] = left


def _text(dims: Dims) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in dims)}]"
