"""Checks of a model *file*: its bytes, external data and weights. For :mod:`edgeprune.graph` alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from edgeprune.errors import ModelError

_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
_CHUNK_ELEMENTS = 1 << 22
_CONTRACTIONS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"})


def parse(source: Path) -> onnx.ModelProto:
    """Parse the bytes of a model file.

    Raises:
        ModelError: if the file cannot be read, is not ONNX, or is truncated.
    """
    try:
        data = source.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {source}: {error.strerror or error}") from error
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        missing = _missing_bytes(data)
        if missing:
            raise ModelError(f"{source.name} is truncated: at least {missing} bytes are missing") from error
        raise ModelError(f"{source.name} is not an ONNX model{_instead(source, data)}") from error
    if not proto.HasField("graph"):
        raise ModelError(f"{source.name} is not an ONNX model{_instead(source, data) or ': it has no graph'}")
    proto.graph.name = proto.graph.name or "graph"
    if not proto.opset_import:
        raise ModelError(f"{source.name} is truncated or incomplete: it has no opset")
    return proto


_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
_BUILT = (".engine", ".plan", ".trt", ".tflite", ".pb", ".h5", ".keras", ".xml", ".mlmodel")


def _instead(source: Path, data: bytes) -> str:
    """What a file that is not ONNX seems to be, and what helps; nothing if that is not known."""
    suffix = source.suffix.lower()
    if data.startswith(b"version https://git-lfs"):
        return ", but the pointer that Git LFS keeps for one: get the file by `git lfs pull`"
    if not data:
        return ": it is empty"
    if suffix in _CHECKPOINTS:
        return ", but a checkpoint: `edgeprune export` makes one from a PyTorch module"
    if suffix in _BUILT:
        return f", but a {suffix} file: give the ONNX file from which it was made"
    return ""


def _missing_bytes(data: bytes) -> int:
    """Number of bytes that are missing at the end of a model's protobuf; 0 if it does not look like a model."""
    position, end = 0, len(data)
    if not end or data[0] != 0x08:  # every exporter writes ir_version, field 1, first
        return 0
    while position < end:
        key, position = _varint(data, position)
        field, wire = key >> 3, key & 7
        if wire == 0:
            _, position = _varint(data, position)
        elif wire == 2:
            length, position = _varint(data, position)
            position += length
            if position > end and 0 < field <= 26:
                return position - end
        else:
            return 0
    return 0


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
        shift += 7
    return value, position


def tensor_protos(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a graph: initializers and attributes, in subgraphs too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from tensor_protos(attribute.g)
            for subgraph in attribute.graphs:
                yield from tensor_protos(subgraph)


def check_file(proto: onnx.ModelProto, source: Path) -> None:
    """Check what a file says of its attributes, inputs, stored tensors and external data.

    Raises:
        ModelError: one of them is incomplete, damaged or missing.
    """
    for node in proto.graph.node:
        untyped = [a.name for a in node.attribute if not a.type and not a.ref_attr_name]
        if untyped and proto.ir_version > 1:
            what = f"attribute {untyped[0]!r} of node {node.name or node.op_type!r}"
            raise ModelError(f"{source.name} is not a valid ONNX model: {what} has no type")
    check_tensors(proto, source.name)
    check_external_data(proto, source)
    check_inputs(proto, source.name)


def check_inputs(proto: onnx.ModelProto, name: str) -> None:
    """Check that every input has an element type and a rank: nothing else in a file tells them.

    Raises:
        ModelError: the text names the input.
    """
    stored = {tensor.name for tensor in proto.graph.initializer}
    for info in (info for info in proto.graph.input if info.name not in stored):
        tensor = info.type.tensor_type
        kind = info.type.WhichOneof("value")
        if kind is None or (kind == "tensor_type" and not tensor.elem_type):
            raise ModelError(f"{name} is not a valid ONNX model: input {info.name!r} has no element type")
        if kind == "tensor_type" and not tensor.HasField("shape"):
            raise ModelError(
                f"{name} has an input {info.name!r} without a shape: declare at least its rank, with names for sizes "
                "that are open"
            )


def check_tensors(proto: onnx.ModelProto, name: str) -> None:
    """Check that every stored tensor has a type, as many bytes as its shape needs, and a name of its own.

    Raises:
        ModelError: the text names the tensor.
    """
    seen: dict[str, onnx.TensorProto] = {}
    for tensor in proto.graph.initializer:
        if tensor.name in seen and seen[tensor.name] != tensor:
            raise ModelError(f"{name} is not a valid ONNX model: it has two different weights {tensor.name!r}")
        seen[tensor.name] = tensor
    for tensor in tensor_protos(proto.graph):
        if tensor.data_type not in onnx.TensorProto.DataType.values() or not tensor.data_type:
            raise ModelError(f"{name} is not a valid ONNX model: tensor {tensor.name!r} has no known element type")
        if any(size < 0 for size in tensor.dims):
            raise ModelError(f"{name} is not a valid ONNX model: tensor {tensor.name!r} has a negative size")
        if tensor.data_location == onnx.TensorProto.EXTERNAL or not tensor.HasField("raw_data"):
            continue
        if tensor.data_type == onnx.TensorProto.STRING:
            raise ModelError(f"{name} is not a valid ONNX model: tensor {tensor.name!r} of texts has raw bytes")
        needed_bytes = math.ceil(math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth / 8)
        if len(tensor.raw_data) != needed_bytes:
            raise ModelError(
                f"{name} is damaged: tensor {tensor.name!r} needs {needed_bytes} bytes, but has {len(tensor.raw_data)}"
            )


def check_external_data(proto: onnx.ModelProto, source: Path) -> None:
    """Check that all external data is inside the model's folder and as long as its tensors say.

    Raises:
        ModelError: if a file is missing, too short, or outside the folder (absolute, with ``..`` or by a symbolic
            link).
    """
    folder = source.parent.resolve()
    sizes: dict[str, int] = {}
    for tensor in tensor_protos(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        fields = {entry.key: entry.value for entry in tensor.external_data}
        location = fields.get("location", "")
        if location not in sizes:
            sizes[location] = _size_of_external_file(folder, location, tensor.name)
        dtype = ir.DataType(tensor.data_type)
        needed_bytes = math.ceil(math.prod(tensor.dims) * dtype.bitwidth / 8)
        try:
            offset, length = int(fields.get("offset", 0)), int(fields.get("length", needed_bytes))
        except ValueError:
            offset = length = -1
        if offset < 0 or length != needed_bytes or offset + length > sizes[location]:
            raise ModelError(
                f"external data {location!r} is damaged: tensor {tensor.name!r} needs {needed_bytes} bytes at offset "
                f"{fields.get('offset', 0)}, but the file has {sizes[location]}"
            )


def _size_of_external_file(folder: Path, location: str, tensor: str) -> int:
    """Size in bytes of an external data file that must be inside ``folder``."""
    parts = PurePosixPath(location).parts
    if not location or ".." in parts or os.path.isabs(location) or PureWindowsPath(location).is_absolute():
        raise ModelError(f"external data {location!r} of tensor {tensor!r} is outside the model's folder; refused")
    path = (folder / location).resolve()
    if not path.is_relative_to(folder):
        raise ModelError(
            f"external data {location!r} of tensor {tensor!r} is a link to outside the model's folder; refused"
        )
    if not path.is_file():
        raise ModelError(f"external data {location!r} of tensor {tensor!r} is missing from {folder}")
    status = path.stat()
    if status.st_nlink > 1:
        raise ModelError(
            f"external data {location!r} of tensor {tensor!r} has several hard links, which may be outside the "
            "model's folder; refused (copy the file)"
        )
    return status.st_size


def check_weights(model: ir.Model) -> None:
    """Look for NaN in every float initializer, and for infinities in the weights of contractions.

    Infinities elsewhere are valid: attention masks have many. Large tensors are read in chunks.

    Raises:
        ModelError: a tensor has one; the text names it.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.dtype not in _FLOATS:
                continue
            finite = any(use.node.op_type in _CONTRACTIONS for use in value.uses())
            for chunk in _chunks(tensor):
                # The sum is finite if all terms are and none overflows: one fast pass, a slow one only if it is not.
                with np.errstate(all="ignore"):
                    doubtful = not math.isfinite(float(chunk.sum(dtype=np.float64 if chunk.itemsize < 4 else None)))
                if doubtful and np.isnan(chunk).any():
                    raise ModelError(f"the initializer {value.name!r} contains NaN")
                if doubtful and finite and np.isinf(chunk).any():
                    raise ModelError(f"the weight {value.name!r} contains infinities")


def _chunks(tensor: ir.TensorProtocol) -> Iterator[np.ndarray]:
    """The elements of a tensor, a few million at a time; external files are read: mapped pages would stay in memory."""
    if isinstance(tensor, ir.ExternalTensor):
        dtype = tensor.dtype.numpy()
        with open(tensor.path, "rb") as file:
            file.seek(tensor.offset or 0)
            left = tensor.size
            while left:
                chunk = np.fromfile(file, dtype=dtype, count=min(left, _CHUNK_ELEMENTS))
                left -= len(chunk)
                yield chunk
        return
    flat = tensor.numpy().reshape(-1)
    for start in range(0, flat.size, _CHUNK_ELEMENTS):
        yield flat[start : start + _CHUNK_ELEMENTS]
