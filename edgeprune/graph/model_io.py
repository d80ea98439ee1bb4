"""ONNX in and out: the only file that loads, saves and shape-infers models.

In memory a model is an :class:`onnx_ir.Model`. Weights stay inside the parsed protobuf or memory-mapped in the external
data file, and are read only on use.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import ModelError, UsageError
from edgeprune.graph import declarations
from edgeprune.graph.file_checks import check_file, check_weights, parse
from edgeprune.graph.shape_inference import complete, contradiction, infer, lite_proto
from edgeprune.graph.shape_refinement import INFERENCE_ERRORS
from edgeprune.support import first_sentence

if TYPE_CHECKING:
    from os import PathLike

EXTERNAL_DATA_BYTES = 1_900_000_000
"""More weights than this are written as external data: a protobuf may not exceed 2 GiB."""

_KEPT_OUTSIDE_BYTES = 256_000_000
"""External data above this stays external data: a protobuf needs three times the memory to write."""

_PLAIN = frozenset({"FLOAT", "FLOAT16", "DOUBLE", "INT8", "UINT8", "INT32", "INT64"})
"""Types that NumPy has, and whose weights can be passed apart from the model."""


def load(path: str | PathLike[str]) -> ir.Model:
    """Read an ONNX model and check it.

    External data is memory-mapped, not read, except in one streaming pass that looks for NaN. Computed values have the
    shapes that are inferred, not the declared ones; :func:`edgeprune.graph.warnings_of` tells where they differ.

    Raises:
        ModelError: if the file is missing, not ONNX, truncated, or fails ONNX's checker; if external data is missing,
            too short or outside the model's folder; if a weight contains NaN.
    """
    source = Path(path).absolute()
    proto = parse(source)
    check_file(proto, source)
    declarations.clear_unknown_sizes(proto.graph)
    redeclared = declarations.declare_as_stored(proto.graph)
    declared = declarations.set_aside(proto.graph)
    try:
        model = ir.serde.deserialize_model(proto)
        ir.external_data.set_base_dir(model.graph, source.parent)
        for graph in model.graphs():
            graph.sort()
            _map_attributes(graph)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, ir.serde.SerdeError) as error:
        raise ModelError(f"{source.name} is not a valid ONNX model: {first_sentence(error)}") from error
    if declared or any(value.shape is None for value in model.graph.outputs):
        try:
            infer(model, keep=True)
        except INFERENCE_ERRORS as error:
            check(model, source.name)  # its sentence is the better one
            wrong = contradiction(model) or first_sentence(error)
            raise ModelError(f"{source.name} is not a valid ONNX model: {wrong}") from error
        declarations.compare_with_inferred(model, declared)
    for text in redeclared:
        declarations.add_warning(model, text)
    check(model, source.name)
    check_weights(model)
    return model


def check(model: ir.Model, name: str = "the model") -> None:
    """Check the structure of a model (not its weights) with ONNX's checker.

    Raises:
        ModelError: with the checker's first sentence.
    """
    proto = lite_proto(model)
    for info in proto.graph.output:
        # The checker wants some shape, but runtimes do not; for the rank of an output, see declarations.py.
        if info.type.HasField("tensor_type") and not info.type.tensor_type.HasField("shape"):
            info.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{name} is not a valid ONNX model: {first_sentence(error)}") from error


def save(model: ir.Model, path: str | PathLike[str], *, external_data: bool | None = None) -> None:
    """Write a model atomically.

    Args:
        model: the model; it is not changed.
        path: the file to write. External data is written beside it, to ``<name>.data``.
        external_data: whether weights become external data; by default if they exceed 1.9 GB, or 256 MB if they were
            external data.

    Raises:
        UsageError: if the disk is full or the folder cannot be written; no partial file remains.
    """
    target = Path(path).absolute()
    limit_bytes = _KEPT_OUTSIDE_BYTES if _from_file(model) else EXTERNAL_DATA_BYTES
    outside = weight_bytes(model) > limit_bytes if external_data is None else external_data
    try:
        with (
            declarations.as_declared(model),
            tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder,
        ):
            written = Path(folder) / target.name
            if outside:
                ir.save(model, written, external_data=f"{target.name}.data")
            else:
                with _embedded(model):
                    ir.save(model, written)
            # The data first, so that no reader sees a model file without its weights.
            for file in sorted(Path(folder).iterdir(), key=lambda f: f == written):
                os.replace(file, target.parent / file.name)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror or error}") from error


def to_bytes(model: ir.Model) -> bytes:
    """Serialize a model with its weights, for an onnxruntime session.

    Raises:
        ModelError: if the weights do not fit in a protobuf (2 GB).
    """
    size_bytes = weight_bytes(model)
    if size_bytes > EXTERNAL_DATA_BYTES:
        raise ModelError(
            f"the model's weights ({size_bytes / 1e9:.1f} GB) do not fit in one protobuf; save it to a file"
        )
    with _embedded(model), declarations.as_declared(model):
        data: bytes = ir.to_proto(model).SerializeToString()
        return data


def to_bytes_and_weights(model: ir.Model, larger_than_bytes: int) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """Serialize a model without its large weights, which may not fit into a protobuf.

    Returns:
        The model, which refers to them as external data without a file, and the weights by name.
    """
    with _embedded(model):
        held = {
            name: (value, tensor)
            for name, value in model.graph.initializers.items()
            if (tensor := value.const_value) is not None
            and tensor.nbytes > larger_than_bytes
            and tensor.dtype.name in _PLAIN
        }
        try:
            for name, (value, tensor) in held.items():
                value.const_value = ir.ExternalTensor(
                    "weights", 0, tensor.nbytes, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
                )
            data: bytes = ir.to_proto(model).SerializeToString()
        finally:
            for value, tensor in held.values():
                value.const_value = tensor
    return data, {name: tensor.numpy() for name, (_, tensor) in held.items()}


def to_references(model: ir.Model) -> tuple[bytes, Path]:
    """Serialize a model whose large weights stay in their files, for an onnxruntime session that maps them.

    Returns:
        The model, and the folder of its external data.

    Raises:
        ModelError: if it has external data in several folders or none, or the other weights do not fit in a protobuf.
    """
    tensors = [value.const_value for value in _initializers(model) if value.const_value is not None]
    folders = {Path(tensor.base_dir) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    inside_bytes = sum(tensor.nbytes for tensor in tensors if not isinstance(tensor, ir.ExternalTensor))
    if len(folders) != 1 or inside_bytes > EXTERNAL_DATA_BYTES:
        raise ModelError("the model's weights are not in one folder")
    data: bytes = ir.to_proto(model).SerializeToString()
    return data, folders.pop()


def clone(model: ir.Model) -> ir.Model:
    """A copy of nodes, values and lists; tensors are immutable, and shared."""
    return model.clone()


def infer_shapes(model: ir.Model, shapes: Mapping[str, Sequence[int]] | None = None, *, keep: bool = True) -> ir.Model:
    """Derive types and shapes of all values, in place, and return the model.

    Args:
        model: changed in place: only ``value.type`` and ``value.shape``.
        shapes: input name -> dimensions, to fix symbolic dimensions of graph inputs.
        keep: a derived shape always replaces a declared one. If none can be derived, a declared shape is kept if this
            is true, and removed if it is false (after a rewrite that changed sizes). Declarations of custom operators'
            outputs are kept.

    Raises:
        UsageError: if ``shapes`` has a name that is not an input, or contradicts a fixed dimension.
        ModelError: if the model is inconsistent.
    """
    if shapes:
        _fix_inputs(model, shapes)
    infer(model, keep=keep and not shapes)
    return model


def complete_shapes(model: ir.Model) -> None:
    """Derive, in place, the types and shapes that are not fully known; known ones are taken as correct."""
    complete(model)


def parse_shape_option(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse ``name=1x3x48x320``; the name itself may contain ``=`` or ``:``.

    Raises:
        UsageError: if the text is malformed or a dimension is not positive.
    """
    match = re.fullmatch(r"(?P<name>.+)=(?P<dims>\d+([x,]\d+)*)", text.strip())
    dims = tuple(int(d) for d in re.split("[x,]", match["dims"])) if match else ()
    if match is None or 0 in dims:
        raise UsageError(f"--shape {text!r}: expected NAME=1x3x48x320 with positive dimensions")
    return match["name"], dims


def _map_attributes(graph: ir.Graph) -> None:
    """Make external tensors in attributes ordinary mapped ones: saving treats only initializers as external."""
    for node in graph:
        for attribute in list(node.attributes.values()):
            if attribute.type is ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                tensor = ir.Tensor(attribute.value.numpy(), dtype=attribute.value.dtype, name=attribute.value.name)
                node.attributes[attribute.name] = ir.AttrTensor(attribute.name, tensor)


def _fix_inputs(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Set the shapes of graph inputs; a symbolic dimension that occurs in several inputs is fixed in all."""
    inputs = {value.name: value for value in model.graph.inputs if not value.is_initializer()}
    bindings: dict[str, int] = {}
    for name, dims in shapes.items():
        if name not in inputs:
            raise UsageError(f"--shape names {name!r}, but the model's inputs are {', '.join(map(repr, inputs))}")
        declared = inputs[name].shape
        if declared is not None and len(declared) != len(dims):
            raise UsageError(f"--shape gives input {name!r} {len(dims)} dimensions, but it has {len(declared)}")
        for axis, (dim, size) in enumerate(zip(declared or (None,) * len(dims), dims, strict=True)):
            symbol = dim.value if isinstance(dim, ir.SymbolicDim) else None
            fixed = dim if isinstance(dim, int) else bindings.setdefault(symbol, size) if symbol else size
            if fixed != size:
                raise UsageError(f"--shape gives axis {axis} of input {name!r} the size {size}, but it must be {fixed}")
        inputs[name].shape = ir.Shape(dims)
    for value in inputs.values():
        if value.shape is not None:
            value.shape = ir.Shape([_bound(dim, bindings) for dim in value.shape])


def _bound(dim: int | ir.SymbolicDim, bindings: Mapping[str, int]) -> int | ir.SymbolicDim:
    return bindings.get(dim.value, dim) if isinstance(dim, ir.SymbolicDim) and dim.value else dim


def _initializers(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.initializers.values()


def _from_file(model: ir.Model) -> bool:
    """Whether weights are external data, or will be computed from it when they are written."""
    return any(isinstance(value.const_value, ir.ExternalTensor | ir.LazyTensor) for value in _initializers(model))


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, those in bodies included."""
    return sum(value.const_value.nbytes for value in _initializers(model) if value.const_value is not None)


@contextlib.contextmanager
def _embedded(model: ir.Model) -> Iterator[None]:
    """Make external tensors ordinary ones inside this context, so that no reference to a file is serialized."""
    external = [
        (value, value.const_value) for value in _initializers(model) if isinstance(value.const_value, ir.ExternalTensor)
    ]
    try:
        for value, tensor in external:
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=value.name)
        yield
    finally:
        for value, tensor in external:
            value.const_value = tensor
