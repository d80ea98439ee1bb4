"""TensorRT's command-line tool ``trtexec``: its arguments for each version, and readers of the files that it writes.

``trtexec`` is part of every TensorRT and JetPack, needs no Python on the device, and measures as NVIDIA does for its
published latencies. Its options changed: 8.x is weakly typed and takes precisions as flags; 10.x has a flag for
strongly typed; 11 is always strongly typed, and several options became the default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgeprune.backends.results import LayerTime
from edgeprune.errors import BackendError
from edgeprune.passes.tensorrt import OLDEST, Release, release

_QUAD, _GLANCE = 4, 256

BLOCKS_PER_ROUND = 4
"""Number of blocks, in order of time, into which the runs of one call are divided; intervals are over these blocks."""


@dataclass(frozen=True, order=True)
class Version:
    """A TensorRT version."""

    major: int
    minor: int = 0
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def release(self) -> Release:
        """The properties of the version; trtexec's options did not change before the oldest one of the table."""
        return release(max((self.major, self.minor), OLDEST))


@dataclass(frozen=True)
class Typing:
    """Properties of a graph that determine the builder's flags.

    Attributes:
        fp16: whether it has float16 tensors.
        int8: whether it has Q/DQ pairs.
        keep_fp32: nodes that a weakly typed builder must not run in FP16.
        sparse: whether a convolution or MatMul in it has 2:4 weights.
    """

    fp16: bool = False
    int8: bool = False
    keep_fp32: tuple[str, ...] = ()
    sparse: bool = False


def parse_version(banner: str) -> Version:
    """The version in trtexec's first line: ``[TensorRT v8601]``, ``v100300``, ``v110000``.

    Raises:
        BackendError: The text has no version.
    """
    match = re.search(r"\[TensorRT v(\d+)\]", banner)
    if match is None:
        raise BackendError("trtexec does not say which TensorRT it belongs to")
    number = int(match[1])
    base = 1000 if number < 10_000 else 10_000
    return Version(number // base, number % base // 100, number % 100)


def build_arguments(version: Version, typing: Typing) -> list[str]:
    """Options that build ``model.onnx`` into ``model.engine``.

    Args:
        version: version of TensorRT.
        typing: properties of the graph.
    """
    kind = version.release
    arguments = ["--onnx=model.onnx", "--saveEngine=model.engine", kind.build_only, "--profilingVerbosity=detailed"]
    if typing.sparse:
        arguments.append("--sparsity=enable")
    if kind.typing == "flag":
        arguments.append("--stronglyTyped")
    if kind.typing == "weak":
        arguments += [flag for flag, wanted in (("--fp16", typing.fp16), ("--int8", typing.int8)) if wanted]
        # The syntax of the option cannot express names with these characters.
        plain = [name for name in typing.keep_fp32 if not re.search(r"[:,*\"]", name)]
        if typing.fp16 and plain:
            arguments += ["--precisionConstraints=obey", "--layerPrecisions=" + ",".join(f"{n}:fp32" for n in plain)]
    return arguments


def bench_arguments(version: Version, *, duration_s: float, cuda_graph: bool = False) -> list[str]:
    """Options that measure ``model.engine`` and export ``times.json``, without data transfers.

    Args:
        version: version of TensorRT.
        duration_s: time of the measurement.
        cuda_graph: replay the kernels as one CUDA graph. Without it, as the profiles are fitted, each is launched.
    """
    arguments = ["--loadEngine=model.engine", f"--duration={max(1, round(duration_s))}", "--warmUp=500"]
    if not version.release.graph_by_default:
        arguments += ["--useSpinWait", "--noDataTransfers"]
    return [*arguments, *graph_arguments(version, cuda_graph), "--exportTimes=times.json"]


def graph_arguments(version: Version, cuda_graph: bool) -> list[str]:
    """The option that turns CUDA graph replay on or off, where it is not the default."""
    if not version.release.graph_by_default:
        return ["--useCudaGraph"] if cuda_graph else []
    return [] if cuda_graph else ["--noCudaGraph"]


def profile_arguments(version: Version) -> list[str]:
    """Options that measure the single kernels of ``model.engine``, in a separate run since that slows it down."""
    arguments = ["--loadEngine=model.engine", "--duration=1", "--profilingVerbosity=detailed"]
    if not version.release.graph_by_default:
        arguments += ["--useSpinWait", "--noDataTransfers", "--separateProfileRun"]
    return [*arguments, "--exportProfile=profile.json", "--exportLayerInfo=layers.json"]


def single_command(version: Version, typing: Typing) -> list[str]:
    """One command that builds ``model.onnx`` and measures the engine, for the user to run on the device.

    :func:`graph_arguments` come behind it.
    """
    build = build_arguments(version, typing)
    bench = bench_arguments(version, duration_s=10)
    return [
        "trtexec",
        *(a for a in build if a not in ("--skipInference", "--buildOnly")),
        *(a for a in bench if "loadEngine" not in a and a != "--noCudaGraph"),
    ]


def read_times(text: bytes | None) -> list[list[float]]:
    """Compute times of ``--exportTimes`` in milliseconds, in blocks in order of time.

    All versions write one object for each run. Up to 8.x the data transfers have other names; the compute time has the
    same name in all versions.

    Raises:
        BackendError: The file is missing, is not JSON, or has no compute times.
    """
    rows = _json(text, "--exportTimes")
    try:
        ordered = sorted(rows, key=lambda row: float(row["startComputeMs"]))
        times = [float(row["computeMs"]) for row in ordered]
    except (TypeError, KeyError, ValueError) as error:
        raise BackendError(f"trtexec's --exportTimes has an unknown form: {error!r}") from error
    size = -(-len(times) // BLOCKS_PER_ROUND)
    return [times[i : i + size] for i in range(0, len(times), size)] if times else []


def period_ms(text: bytes | None) -> float:
    """Milliseconds from the start of one run to the next, of ``--exportTimes``; 0 with less than two runs.

    Raises:
        BackendError: The file is missing, is not JSON, or has no start times.
    """
    try:
        starts = sorted(float(row["startComputeMs"]) for row in _json(text, "--exportTimes"))
    except (TypeError, KeyError, ValueError) as error:
        raise BackendError(f"trtexec's --exportTimes has an unknown form: {error!r}") from error
    return (starts[-1] - starts[0]) / (len(starts) - 1) if len(starts) > 1 else 0.0


def read_layers(profile: bytes | None, information: bytes | None) -> tuple[LayerTime, ...]:
    """Kernels of ``--exportProfile``, slowest first, with kind and types from ``--exportLayerInfo`` if it has them.

    Raises:
        BackendError: A file is not JSON, or has another form.
    """
    if profile is None:
        return ()
    described = _layer_descriptions(information)
    found = []
    try:
        for row in _json(profile, "--exportProfile"):
            if "name" in row:
                typical_ms = float(row["medianMs"] if "medianMs" in row else row["averageMs"])
                found.append(LayerTime(row["name"], 1000 * typical_ms, *described.get(row["name"], ("", (), ()))))
    except (TypeError, KeyError, ValueError) as error:
        raise BackendError(f"trtexec's --exportProfile has an unknown form: {error!r}") from error
    return tuple(sorted(found, key=lambda layer: -layer.median_us))


def _layer_descriptions(information: bytes | None) -> Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Name of a layer -> its kind, its types, and the nodes of the graph in it."""
    if information is None:
        return {}
    content = _json(information, "--exportLayerInfo")
    described: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {}
    for layer in content.get("Layers", []) if isinstance(content, dict) else []:
        if not isinstance(layer, dict) or "Name" not in layer:
            continue  # without detailed verbosity a layer is only a name
        tensors = [t for side in ("Inputs", "Outputs") for t in layer.get(side, []) if isinstance(t, dict)]
        types = dict.fromkeys(str(t.get("Format/Datatype") or t.get("Datatype") or "") for t in tensors)
        described[str(layer["Name"])] = (
            str(layer.get("LayerType", "")),
            tuple(t for t in types if t),
            nodes_in(str(layer.get("Metadata", ""))),
        )
    return described


def nodes_in(metadata: str) -> tuple[str, ...]:
    """Node names in a layer's metadata, which TensorRT 8.6 and newer write as ``[ONNX Layer: a]``, joined by 0x1e."""
    return tuple(dict.fromkeys(re.findall(r"\[ONNX Layer: ([^\x1e]*)\]", metadata)))


def _json(text: bytes | None, option: str) -> Any:
    if text is None:
        raise BackendError(f"trtexec wrote no file for {option}")
    try:
        return json.loads(text)
    except ValueError as error:
        raise BackendError(f"trtexec's {option} is not JSON: {error}") from error


def error_in(log: str) -> str:
    """The first error that trtexec or TensorRT logged, without prefixes; else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\[E\]", line)]
    chosen = errors[0] if errors else (lines[-1] if lines else "it printed nothing")
    return re.sub(r"^(\[[^\]]*\] )*", "", chosen).rstrip(".")


def typing_of(model: ir.Model) -> Typing:
    """Typing of a lowered graph; `keep_fp32` are its float32 nodes that must not be computed in FP16."""
    from edgeprune.passes.tensorrt import fp16_eligible

    nodes = list(model.graph)
    fp16 = any(value.dtype == ir.DataType.FLOAT16 for node in nodes for value in node.outputs)
    int8 = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in nodes)
    risky = {name for name, verdict in fp16_eligible(model).items() if not verdict} if fp16 else set()
    wide = {str(node.name) for node in nodes if any(v.dtype == ir.DataType.FLOAT for v in node.outputs)}
    kept = (risky & wide) | (_islands(nodes) if fp16 else set())
    return Typing(fp16, int8, tuple(sorted(kept)), any(_has_sparse_weight(node) for node in nodes))


def _islands(nodes: Sequence[ir.Node]) -> set[str]:
    """Names of connected float32 nodes between float16 ones: FP16 is too coarse for them.

    Float32 nodes that are connected to a Q/DQ pair are left out: these are parts of INT8 layers.
    """
    wide = {n for n in nodes if n.op_type != "Cast" and any(v.dtype == ir.DataType.FLOAT for v in n.outputs)}
    found: set[str] = set()
    while wide:
        todo, island, beside_int8 = [wide.pop()], set[str](), False
        while todo:
            node = todo.pop()
            island.add(str(node.name))
            beside_int8 = beside_int8 or node.op_type == "DequantizeLinear"
            producers = {v.producer() for v in node.inputs if v is not None and v.dtype == ir.DataType.FLOAT}
            readers = {c for v in node.outputs if v.dtype == ir.DataType.FLOAT for c in v.consumers()}
            beside_int8 = beside_int8 or any(c.op_type == "QuantizeLinear" for c in readers)
            near = {n for n in (*producers, *readers) if n in wide}
            wide -= near
            todo += [n for n in near if n is not None]
        if not beside_int8:
            found |= island
    return found


def _has_sparse_weight(node: ir.Node) -> bool:
    """Whether at most two of every four consecutive input channels of the node's weight are nonzero."""
    if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.inputs) < 2:
        return False
    value = node.inputs[1]
    while value is not None and value.const_value is None:
        producer = value.producer()
        if producer is None or producer.op_type not in ("Cast", "DequantizeLinear", "QuantizeLinear"):
            return False
        value = producer.inputs[0]
    if value is None or value.const_value is None or len(value.const_value.shape) < 2:
        return False
    weight = value.const_value.numpy()
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB") == 1
    channels = weight.ndim - 2 if node.op_type == "MatMul" else 1 if node.op_type == "Conv" or transposed else 0
    size = weight.shape[channels]
    if size % _QUAD:
        return False
    # The first columns already show that almost every dense weight is dense.
    columns = weight.swapaxes(channels, -1).reshape(-1, _QUAD)
    return all(int((part != 0).sum(axis=1).max(initial=0)) <= _QUAD // 2 for part in (columns[:_GLANCE], columns))
