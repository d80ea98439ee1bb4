"""Run two models on the same random inputs and compare their outputs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.errors import ModelError
from edgeprune.passes.verify.common_ends import common_ends
from edgeprune.passes.verify.random_inputs import Feeds, random_feeds
from edgeprune.passes.verify.running_sizes import running_sizes
from edgeprune.passes.verify.sessions import run, session

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
_COARSE = 1e-2
"""Where a model is held to less than this (float16, quantized), its 8-bit integers may differ by several steps, too. In
others they differ by one at most: a Cast cuts off a value whose last bit has changed."""
_BATCHES = (2, 3)
"""A model with open axes is compared at two sizes: one alone does not show that a rewrite wrote a size down."""


def verify_equal(
    reference: ir.Model,
    candidate: ir.Model,
    *,
    values: bool = True,
    tolerance: float | None = None,
    sizes: graphs.InputShapes | None = None,
    like: ir.Model | None = None,
) -> bool:
    """Compare two models in onnxruntime on random inputs.

    Args:
        reference: the model as it was.
        candidate: what a rewrite made of it.
        values: whether the values of the outputs must agree, or their shapes and types alone.
        tolerance: relative to an output's largest value; by default the precision of the types of ``reference``.
        sizes: input name -> dimensions at which they are compared in any case; if axes are open, at others too.
        like: the reference without functions and Constant nodes, which tells more of the sizes at which it runs.

    Returns:
        Whether they were compared; onnxruntime cannot run models with unknown custom operators.

    Raises:
        ModelError: if an output differs in shape or type, or by more than its type's tolerance relative to its largest
            value.
    """
    macs = sum(graphs.count_macs(candidate).values())
    if not values:
        return _verify(reference, candidate, 1, tolerance, sizes, like, values=False)
    few = max(1, int(_DRAWN_MACS / max(macs, 1)))
    if few < _DRAWS:
        try:
            return _verify(reference, candidate, few, tolerance, sizes, like)
        except ModelError as error:
            logger.info("%s; compared on more inputs", error)
    return _verify(reference, candidate, _DRAWS, tolerance, sizes, like)


def _verify(
    reference: ir.Model,
    candidate: ir.Model,
    draws: int,
    given: float | None,
    sizes: graphs.InputShapes | None,
    like: ir.Model | None,
    *,
    values: bool = True,
) -> bool:
    """As :func:`verify_equal`, on ``draws`` random inputs."""
    names = [value.name or "" for value in reference.graph.outputs]
    try:
        first = session(reference)
        runs = _runs(like or reference, first, names, draws, sizes)
    except ModelError as error:
        logger.warning("not verified numerically: %s", error)
        if all(n.domain in graphs.ONNX_DOMAINS for n in reference.graph) and (wrong := graphs.contradiction(reference)):
            raise ModelError(f"the model is not valid: {wrong}") from error
        graphs.add_warning(candidate, f"onnxruntime cannot run the model, so its rewrites were not compared: {error}")
        return False
    for _, outputs in runs:
        results = {n: a.shape for n, a in zip(names, outputs, strict=True) if isinstance(a, np.ndarray)}
        graphs.compare_with_results(candidate, results)
    selecting = any(node.op_type in _SELECTING for node in reference.graph.all_nodes())
    tolerance = _tolerance(reference) if given is None else given
    del first  # one set of weights in memory at a time
    second = session(candidate)
    found = [_difference(names, expected, _attempt(second, names, feeds), tolerance) for feeds, expected in runs]
    del second
    for difference in found:
        if difference is not None and difference.of_shape and not selecting:
            raise ModelError(f"the rewritten model differs from the original: {difference.text}")
    if not values:
        return True
    if all(difference is None for difference in found) or (selecting and None in found):
        return True
    # The model itself may amplify the last bit of its input by more than the tolerance, on some inputs more than on
    # others. Then agreement on one random input is enough, or a difference that is as small as that amplification.
    first = session(reference)
    unsteadiness = 0.0
    for feeds, expected in runs:
        nudged = _attempt(first, names, _nudged(feeds))
        unsteadiness = max([unsteadiness, *(_error(a, b) for a, b in zip(expected, nudged or expected, strict=True))])
    if unsteadiness > tolerance and None in found:
        return True
    allowed = min(_UNSTEADY_FACTOR * unsteadiness, _LARGEST_TOLERANCE)
    failed = [difference for difference in found if difference is not None and difference.error > allowed]
    del first
    if failed and not _equal_before_ends(reference, candidate, [feeds for feeds, _ in runs], tolerance):
        raise ModelError(f"the rewritten model differs from the original: {failed[0].text}")
    return True


def _equal_before_ends(reference: ir.Model, candidate: ir.Model, draws: list[Feeds], tolerance: float) -> bool:
    """Whether the models end in the same nodes, and these read the same values on all random inputs."""
    pairs = common_ends(reference, candidate)
    outputs = {value.name for value in reference.graph.outputs}
    if all(name in outputs for name, _ in pairs):
        return False
    names, others = [a for a, _ in pairs], [b for _, b in pairs]
    try:
        before = session(graphs.with_outputs(reference, names))
        expected = [run(before, names, feeds) for feeds in draws]
        del before  # one set of weights in memory at a time
        before = session(graphs.with_outputs(candidate, others))
        found = [run(before, others, feeds) for feeds in draws]
    except ModelError as error:
        logger.info("the values before the outputs are not compared: %s", error)
        return False
    return all(_difference(names, a, b, tolerance) is None for a, b in zip(expected, found, strict=True))


def _runs(
    model: ir.Model,
    run_session: onnxruntime.InferenceSession,
    names: list[str],
    draws: int,
    given: graphs.InputShapes | None,
) -> list[tuple[Feeds, list[Any]]]:
    """Random inputs, and the outputs: several draws at the first sizes with which the model runs, one at the second.

    Sizes that are given are the first.

    Raises:
        ModelError: if it does not run.
    """
    sizes = [given] if given else running_sizes(model, batches=_BATCHES, runner=run_session)
    if given and graphs.open_axes(model):
        with contextlib.suppress(ModelError):  # it may run at the given sizes alone
            sizes += [s for s in running_sizes(model, batches=_BATCHES, runner=run_session) if s != given][-1:]
    feeds = [random_feeds(model, sizes[0], seed=seed) for seed in range(draws)]
    feeds += [random_feeds(model, shapes, seed=0) for shapes in sizes[1:]]
    attempts = ((f, _attempt(run_session, names, f)) for f in feeds if f is not None)
    return [(f, outputs) for f, outputs in attempts if outputs is not None]


def _attempt(run_session: onnxruntime.InferenceSession, names: list[str], feeds: Feeds) -> list[Any] | None:
    """The outputs, or None if the model cannot be run on these inputs."""
    try:
        return run(run_session, names, feeds)
    except ModelError:
        return None


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
    """A difference of a model's outputs as text, its size relative to the largest value, and if it is one of shape."""

    text: str
    error: float
    of_shape: bool = False


def _difference(names: list[str], expected: list[Any], found: list[Any] | None, tolerance: float) -> _Difference | None:
    """The largest difference of a model's outputs; None if all are within the tolerance."""
    if found is None:
        return _Difference("it cannot be run", float("inf"), of_shape=True)
    worst = _Difference("", tolerance)
    for name, a, b in zip(names, expected, found, strict=True):
        error = _error(a, b)
        if tolerance < _COARSE and _steps_apart(a, b) > 1:
            return _Difference(f"output {name!r} has integers that differ by more than one", float("inf"))
        if isinstance(a, np.ndarray) and (a.shape != b.shape or a.dtype != b.dtype):
            kinds = f"{a.dtype}{list(a.shape)} in the original and {b.dtype}{list(b.shape)} after"
            return _Difference(f"output {name!r} is {kinds}", float("inf"), of_shape=True)
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


def _steps_apart(a: Any, b: Any) -> int:
    """The largest difference of two tensors of 8-bit integers; 0 for other types and shapes."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray) or a.shape != b.shape or a.dtype != b.dtype:
        return 0
    if a.dtype.kind not in "iu" or a.dtype.itemsize > 1:
        return 0
    return int(np.abs(a.astype(np.int32) - b.astype(np.int32)).max(initial=0))


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
    """Largest difference over largest finite magnitude; infinite if other values than floats and bytes differ."""
    if expected.dtype.kind not in "fV" and expected.dtype.itemsize > 1:
        return 0.0 if np.array_equal(expected, found) else float("inf")
    a, b = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    return float(np.abs(a[finite] - b[finite]).max() / (np.abs(a[finite]).max() + 1e-30))
