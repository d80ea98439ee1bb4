"""Which nodes must not compute in FP16, judged by what FP16 changes at the outputs.

A range says where FP16 overflows. It does not say where FP16 is too coarse: pixel coordinates of 1000 have a step of
0.5. So the network runs once with everything in FP16 that may be, as the engine computes it
(`edgeprune.backends.simulation`). Most networks pass, and nothing else is run. Otherwise the nodes are halved until
those are found that cause more than the limit alone. Many nodes just under the limit add up, as in a very deep network:
if all others together leave less than a lower limit, the parts of the network that add most stay in FP32, too, until
they do not.

The error is measured before operators that decide (TopK, NonMaxSuppression, comparisons): behind them any change of the
order counts as a large error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import simulation
from edgeprune.calibration import Calibration, PartialRuns
from edgeprune.graph import has_subgraph, is_op, with_outputs
from edgeprune.passes.tensorrt import cast_fp16

LIMIT_DB = 50.0
"""A node stays in FP32 if FP16 there alone leaves less than this signal-to-noise ratio at an output."""

WHOLE_DB = 40.0
"""All nodes in FP16 together leave at least this signal-to-noise ratio at every output: 1% of the amplitude."""

PARTS = 16
"""Consecutive parts of the network of which those with the most noise stay in FP32."""

ITEMS = 4
"""Samples that are run. Two are too few: of 48 small MatMuls they tell 41 dB, where four tell 39."""

MOST_TRIALS = 96
"""Most runs of a network; ranges of nodes that are not decided by then stay in FP32."""

DECIDING_OPS = frozenset({
    "ArgMax", "ArgMin", "Bernoulli", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "Less",
    "LessOrEqual", "Multinomial", "NonMaxSuppression", "NonZero", "Round", "Sign", "TopK", "Unique",
})  # fmt: skip
"""A small change of what these read can change their result completely."""

_FLOAT = ir.DataType.FLOAT


def worse_in_fp16(model: ir.Model, half: Collection[str], data: Calibration, threads: int) -> dict[str, str]:
    """Node -> why it must stay in FP32.

    Args:
        model: canonical, float32.
        half: names of the nodes that may be in FP16 by their ranges.
        data: samples; with random numbers an overflow counts for nothing.
        threads: of onnxruntime.
    """
    nodes = [str(node.name) for node in model.graph if node.name in half]
    observed = decided_values(model)
    if not nodes or not observed:
        return {}
    trial = _Trial(with_outputs(model, observed), tuple(observed), data, threads)
    alive = {str(node.name) for node in trial.model.graph}
    nodes = [name for name in nodes if name in alive]
    total = trial.noise(nodes)
    if not total.is_over or (data.is_random and not np.isfinite(total.share)):
        return {}
    found: dict[str, str] = {}
    ranges = [(total, nodes)]
    while ranges:
        noise, names = ranges.pop()
        if len(names) == 1 or trial.count >= MOST_TRIALS:
            found.update(dict.fromkeys(names, noise.reason))
            continue
        middle = len(names) // 2
        halves = [(trial.noise(part), part) for part in (names[:middle], names[middle:])]
        ranges += [(noise, part) for noise, part in halves if noise.is_over]
    return found | _added_up(trial, [name for name in nodes if name not in found], data)


def _added_up(trial: _Trial, nodes: Sequence[str], data: Calibration) -> dict[str, str]:
    """Nodes that stay in FP32 because all together leave too little; the parts with the most noise come first."""
    left, found = list(nodes), dict[str, str]()
    total = trial.noise(left)
    if total.is_within(WHOLE_DB) or (data.is_random and not np.isfinite(total.share)):
        return {}
    size = -(-len(left) // PARTS)
    parts = [left[start : start + size] for start in range(0, len(left), size)]
    for part in sorted(parts, key=lambda part: -trial.noise(part).share):
        found.update(dict.fromkeys(part, f"{total.words('FP16 in all nodes', WHOLE_DB)}; this part adds most"))
        left = [name for name in left if name not in found]
        if not left or (total := trial.noise(left)).is_within(WHOLE_DB):
            break
    return found


def decided_values(model: ir.Model) -> list[str]:
    """The float values at which an error is measured: outputs, and what deciding operators read in their place."""
    behind: set[ir.Value] = set()
    found: dict[str, None] = {}
    for node in model.graph:
        decides = is_op(node, *DECIDING_OPS) or has_subgraph(node) or _rounds(node)
        if decides:
            found.update(
                {str(v.name): None for v in node.inputs if v is not None and _is_computed_float(v) and v not in behind}
            )
        if decides or any(v in behind for v in node.inputs):
            behind.update(node.outputs)
    found.update({str(v.name): None for v in model.graph.outputs if _is_computed_float(v) and v not in behind})
    return list(found)


@dataclass(frozen=True)
class _Noise:
    """The largest share of noise power at an output, and the name of that output."""

    share: float
    output: str

    @property
    def is_over(self) -> bool:
        return not self.is_within(LIMIT_DB)

    def is_within(self, limit_db: float) -> bool:
        return self.share <= 10 ** (-limit_db / 10)

    @property
    def reason(self) -> str:
        return self.words("FP16 here", LIMIT_DB)

    def words(self, what: str, limit_db: float) -> str:
        if not np.isfinite(self.share):
            return f"{what} makes {self.output!r} infinite or NaN"
        return f"{what} leaves {-10 * np.log10(self.share):.0f} dB at {self.output!r}, less than {limit_db:.0f}"


@dataclass(eq=False)
class _Trial:
    """Runs a model with some of its nodes in FP16."""

    model: ir.Model
    observed: Sequence[str]
    data: Calibration
    threads: int
    count: int = 0

    @cached_property
    def _runs(self) -> PartialRuns:
        feeds: list[Mapping[str, NDArray[np.generic]]] = list(self.data.subset(ITEMS).batches(ITEMS))
        return PartialRuns(self.model, feeds, self.threads, axes={})  # where samples lie does not matter

    def noise(self, nodes: Collection[str]) -> _Noise:
        """The noise at the observed values with these nodes in FP16."""
        self.count += 1
        outputs = self._runs.outputs(simulation.rounded_float32(cast_fp16(self.model, nodes)))
        shares = map(noise_share, self._runs.reference, outputs)
        return max((_Noise(s, name) for s, name in zip(shares, self.observed, strict=True)), key=lambda n: n.share)


def noise_share(reference: NDArray[np.generic], output: NDArray[np.generic]) -> float:
    """Power of the error, as a share of the power of the reference about its mean; infinite if it is not finite."""
    if reference.shape != output.shape:
        return float("inf")
    x, y = reference.astype(np.float64), output.astype(np.float64)
    finite = np.isfinite(x)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True) or not np.isfinite(y[finite]).all():
        return float("inf")
    fine = x[finite]
    error = np.square(fine - y[finite]).sum()
    power = np.square(fine - fine.mean()).sum() if fine.size else 0.0
    # A constant output has no power about its mean.
    power = power if power > 1e-6 * np.square(fine).sum() else np.square(fine).sum()
    return float(error / power) if power > 0 else (0.0 if error == 0 else float("inf"))


def _rounds(node: ir.Node) -> bool:
    """Whether a node converts float to another kind of number."""
    result = node.outputs[0].dtype if node.outputs else None
    return is_op(node, "Cast") and result is not None and not result.is_floating_point()


def _is_computed_float(value: ir.Value) -> bool:
    return value.dtype == _FLOAT and value.producer() is not None and value.const_value is None
