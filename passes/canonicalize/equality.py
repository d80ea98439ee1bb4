"""Run two models on the same random inputs and compare their outputs."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime

logger = logging.getLogger(__name__)

_RELATIVE_TOLERANCE = {
    # Each folded layer adds one rounding error; these are the type's precision after some hundred layers.
    ir.DataType.DOUBLE: 1e-9,
    ir.DataType.FLOAT: 1e-4,
    ir.DataType.FLOAT16: 2e-2,
    ir.DataType.BFLOAT16: 1e-1,
}
_QUANTIZED_TOLERANCE = 2e-2
"""A value between two INT8 steps may be rounded to the other step: a step is 1/127 of the range."""
_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})
_SELECTING = frozenset({"ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "TopK", "Unique", "Round", "Floor", "Ceil"})
"""Operators that turn a difference in the last bit into another result: agreement on one random input is enough."""
_DRAWS = 3
_DRAWN_MACS = 4e10
"""Multiply-accumulates, about a second of work; a model that agrees on this much is not run on more random inputs."""
_UNSTEADY_FACTOR = 8
"""The rewriting may change an output this many times as much as a tiny change of the input: it acts in many places."""
_LARGEST_TOLERANCE = 5e-2
_SIZES = (64, 224, 32, 16, 8, 7, 4, 1)
"""Sizes for symbolic dimensions other than the batch, tried in turn until the original runs."""

Feeds = dict[str, NDArray[Any]]


def verify_equal(reference: ir.Model, candidate: ir.Model) -> bool:
    """Compare two models in onnxruntime on random inputs.

    Returns:
        Whether they were compared; onnxruntime cannot run models with unknown custom operators.

    Raises:
        ModelError: if an output differs in shape or type, or by more than its type's tolerance relative to its largest
            value.
    """
    macs = sum(graphs.count_macs(candidate).values())
    few = max(1, int(_DRAWN_MACS / max(macs, 1)))
    if few < _DRAWS:
        try:
            return _verify(reference, candidate, few)
        except ModelError as error:
            logger.info("%s; compared on more inputs", error)
    return _verify(reference, candidate, _DRAWS)


def _verify(reference: ir.Model, candidate: ir.Model, draws: int) -> bool:
    """As :func:`verify_equal`, on ``draws`` random inputs."""
    try:
        first = session(reference)
    except ModelError as error:
        logger.warning("not verified numerically: %s", error)
        return False
    names = [value.name or "" for value in reference.graph.outputs]
    runs = _runs(reference, first, names, draws)
    if runs is None:
        logger.warning("not verified numerically: onnxruntime cannot run the original on random inputs")
        return False
    selecting = any(node.op_type in _SELECTING for node in reference.graph.all_nodes())
    tolerance = _tolerance(reference)
    del first  # one set of weights in memory at a time
    second = session(candidate)
    found = [_difference(names, expected, _run(second, names, feeds), tolerance) for feeds, expected in runs]
    del second
    if all(difference is None for difference in found) or (selecting and None in found):
        return True
    # The model itself may amplify the last bit of its input by more than the tolerance, on some inputs more than on
    # others. Then agreement on one random input is enough, or a difference that is as small as that amplification.
    first = session(reference)
    unsteadiness = 0.0
    for feeds, expected in runs:
        nudged = _run(first, names, _nudged(feeds))
        unsteadiness = max([unsteadiness, *(_error(a, b) for a, b in zip(expected, nudged or expected, strict=True))])
    if unsteadiness > tolerance and None in found:
        return True
    for difference in found:
        if difference is not None and difference.error > min(_UNSTEADY_FACTOR * unsteadiness, _LARGEST_TOLERANCE):
            raise ModelError(f"the rewritten model differs from the original: {difference.text}")
    return True


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    """An onnxruntime session that runs the model as it is, without graph optimization.

    Raises:
        ModelError: if onnxruntime does not accept the model.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    refusals = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.NotImplemented,
        state.NoSuchFile,
        state.RuntimeException,
    )
    try:
        if graphs.weight_bytes(model) <= graphs.EXTERNAL_DATA_BYTES:
            return ort.InferenceSession(graphs.to_bytes(model), options, providers=["CPUExecutionProvider"])
        # Map the weights once: no copy in another file, and no prepacked copy in memory.
        options.add_session_config_entry("session.disable_prepacking", "1")
        with contextlib.suppress(ModelError):
            data, weights = graphs.to_references(model)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
            return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            path = Path(folder) / "model.onnx"
            graphs.save(model, path)
            return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except refusals as error:
        raise ModelError(f"onnxruntime does not accept the model: {str(error).splitlines()[0]}") from error


def _run(run_session: onnxruntime.InferenceSession, names: list[str], feeds: Feeds) -> list[Any] | None:
    """The outputs, or None if the model cannot be run on these inputs."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        return list(run_session.run(names, feeds))
    except (state.Fail, state.InvalidArgument, state.RuntimeException, state.NotImplemented, ValueError, RuntimeError):
        return None


def _runs(
    model: ir.Model, run_session: onnxruntime.InferenceSession, names: list[str], draws: int
) -> list[tuple[Feeds, list[Any]]] | None:
    """Random inputs of the first sizes with which the model runs, and its outputs; None if it never runs."""
    for batch, size in [(2, size) for size in _SIZES] + [(1, size) for size in _SIZES]:
        feeds = random_feeds(model, batch=batch, size=size, seed=0)
        if feeds is None:
            return None
        expected = _run(run_session, names, feeds)
        if expected is not None:
            rest = (random_feeds(model, batch=batch, size=size, seed=seed) for seed in range(1, draws))
            more = ((f, _run(run_session, names, f)) for f in rest if f is not None)
            return [(feeds, expected), *((f, outputs) for f, outputs in more if outputs is not None)]
        if not _symbolic(model):
            break
    return None


def _symbolic(model: ir.Model) -> bool:
    return any(value.shape is None or value.shape.is_dynamic() for value in model.graph.inputs)


def random_feeds(model: ir.Model, *, batch: int, size: int, seed: int) -> Feeds | None:
    """Random inputs: normal for floats, 0 or 1 for integers; None if an input is not a tensor of numbers.

    Args:
        model: the model with these inputs.
        batch: size of a symbolic first axis. Equal symbols get equal sizes.
        size: size of all other symbolic axes.
        seed: seed of the generator.
    """
    generator = np.random.default_rng(seed)
    bindings: dict[str, int] = {}
    feeds: Feeds = {}
    for value in model.graph.inputs:
        if value.is_initializer():
            continue
        if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.STRING) or value.name is None:
            return None
        dims = [
            dim if isinstance(dim, int) else _bind(bindings, dim.value, batch if axis == 0 else size)
            for axis, dim in enumerate(value.shape or ())
        ]
        dtype = value.type.dtype.numpy()
        floating = value.type.dtype.is_floating_point()
        array = generator.standard_normal(dims) if floating else generator.integers(0, 2, dims)
        feeds[value.name] = np.asarray(array).astype(dtype)
    return feeds


def _bind(bindings: dict[str, int], symbol: str | None, size: int) -> int:
    return size if symbol is None else bindings.setdefault(symbol, size)


def _all_dtypes(model: ir.Model) -> Iterator[ir.DataType]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.dtype is not None:
                yield value.dtype
        for node in graph:
            yield from (value.dtype for value in node.outputs if value.dtype is not None)
            target = node.attributes.get("to")
            if node.op_type == "Cast" and target is not None:
                yield ir.DataType(target.as_int())


def _tolerance(model: ir.Model) -> float:
    """Relative tolerance of a model: that of the least precise type it computes in."""
    found = {dtype for dtype in _all_dtypes(model) if dtype in _RELATIVE_TOLERANCE} or {ir.DataType.FLOAT}
    tolerance = max(_RELATIVE_TOLERANCE[dtype] for dtype in found)
    quantized = any(node.op_type in _QUANTIZERS for node in model.graph.all_nodes())
    return max(tolerance, _QUANTIZED_TOLERANCE) if quantized else tolerance


@dataclass(frozen=True)
class _Difference:
    """A difference of a model's outputs as text, and its size relative to the largest value."""

    text: str
    error: float


def _difference(names: list[str], expected: list[Any], found: list[Any] | None, tolerance: float) -> _Difference | None:
    """The largest difference of a model's outputs; None if all are within the tolerance."""
    if found is None:
        return _Difference("it cannot be run", float("inf"))
    worst = _Difference("", tolerance)
    for name, a, b in zip(names, expected, found, strict=True):
        error = _error(a, b)
        if isinstance(a, np.ndarray) and (a.shape != b.shape or a.dtype != b.dtype):
            kinds = f"{a.dtype}{list(a.shape)} in the original and {b.dtype}{list(b.shape)} after"
            return _Difference(f"output {name!r} is {kinds}", float("inf"))
        if error > worst.error:
            text = f"output {name!r} is off by {error:.1e} of its largest value (tolerance {tolerance:g})"
            worst = _Difference(text, error)
    return worst if worst.text else None


def _error(a: Any, b: Any) -> float:
    """The relative error of a tensor; sequences and optionals are compared element by element."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return relative_error(a, b) if a.shape == b.shape and a.dtype == b.dtype else float("inf")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return max((_error(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
    return 0.0 if type(a) is type(b) and a == b else float("inf")


def _nudged(feeds: Feeds) -> Feeds:
    """The same inputs with floats changed by a few units in the last place, up and down in turn."""
    nudged = {}
    for name, array in feeds.items():
        if array.dtype.kind == "f":
            signs = np.where(np.arange(array.size).reshape(array.shape) % 2, 1, -1)
            nudged[name] = (array * (1 + 4 * np.finfo(array.dtype).eps * signs)).astype(array.dtype)
        else:
            nudged[name] = array
    return nudged


def relative_error(expected: NDArray[Any], found: NDArray[Any]) -> float:
    """Largest difference over largest finite magnitude; infinite if values other than finite floats differ."""
    if expected.dtype.kind not in "fV":
        return 0.0 if np.array_equal(expected, found) else float("inf")
    a, b = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    return float(np.abs(a[finite] - b[finite]).max() / (np.abs(a[finite]).max() + 1e-30))
