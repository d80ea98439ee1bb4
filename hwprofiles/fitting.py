"""The fit of the analytic cost model: parameters with priors, a stacked evaluation of all rows, and held-out errors.

It minimizes a robust loss of log latency with a log-normal prior on every parameter. Parameters that the rows do not
determine stay at a physically plausible value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.costmodel import Sizes, runs_int8, sizes_latency_us, stack, with_batch
from edgeprune.devices import Device, Precision, load_profile, target_names
from edgeprune.hwprofiles.published import Counted, Row

Floats = NDArray[np.float64]

ROW_SPREAD = 0.05
"""Relative scatter of published latencies around a perfect model: builds of the same network on the same board differ
by 4%, and repeats of published rows by 5 to 10%."""


@dataclass(frozen=True)
class Parameter:
    """A positive parameter with its prior: median, standard deviation of its logarithm, and upper limit."""

    name: str
    median: float
    spread: float
    limit: float = np.inf


PARAMETERS = (
    Parameter("efficiency", 0.85, 0.15, 1.0),
    Parameter("int8_efficiency", 0.9, 0.1, 1.0),
    Parameter("fp32_efficiency", 0.9, 0.2, 1.0),
    Parameter("tile_latency", 24.0, 0.5),
    Parameter("wave_cycles", 1000.0, 0.5),
    Parameter("launch_cycles", 3000.0, 0.5),
    Parameter("launch_fixed_us", 1.5, 0.5),
    Parameter("call_us", 15.0, 0.7),
    Parameter("dram_efficiency", 0.8, 0.1, 0.92),
    Parameter("l2_bytes_per_cycle", 24.0, 0.5),
    Parameter("depthwise_efficiency", 0.1, 0.4, 1.0),
    Parameter("matmul_efficiency", 0.9, 0.1, 1.2),
    Parameter("fused_fp16", 0.05, 1.0, 1.0),
    Parameter("fused_int8", 0.05, 1.0, 1.0),
    Parameter("concat_copies", 0.7, 0.4, 1.0),
    Parameter("concat_launches", 0.5, 0.5, 1.0),
    Parameter("image_copies", 1.0, 0.3),
    Parameter("nms_cycles", 2e4, 0.5),
    Parameter("winograd_gain", 1.6, 0.2, 2.25),
    Parameter("python_us", 80.0, 0.5),
    Parameter("transfers_us", 80.0, 0.7),
    Parameter("mlperf_gain", 0.87, 0.1, 1.0),
)
NAMES = tuple(p.name for p in PARAMETERS)
HARNESSES = ("trtexec", "python", "transfers", "mlperf")
"""Programs that measured: ``python`` waits in Python after each call (``python_us`` more), ``transfers`` also copies to
and from the device (``transfers_us``), MLPerf's engines have kernels fused by hand (``mlperf_gain`` of the time)."""
OF_THE_HARNESS = ("python_us", "transfers_us", "mlperf_gain")
"""Parameters that tell how a row was measured; no prediction uses them."""
_COPIED = tuple(n for n in NAMES if n in Device.__dataclass_fields__ and n not in ("efficiency", "winograd_gain"))
"""Parameters that are fields of a device, with the same meaning."""


def with_parameters(device: Device, log_values: Floats) -> Device:
    """The device with other fitted parameters; ``log_values`` in the order of :data:`PARAMETERS`."""
    v = dict(zip(NAMES, np.exp(log_values).tolist(), strict=True))
    efficiency: dict[Precision, float] = {
        "fp32": v["efficiency"] * v["fp32_efficiency"],
        "fp16": v["efficiency"],
        "int8": v["efficiency"] * v["int8_efficiency"],
    }
    tails: dict[Precision, float] = {"fp32": 0.0, "fp16": v["fused_fp16"], "int8": v["fused_int8"]}
    return replace(
        device,
        efficiency={p: e for p, e in efficiency.items() if p in device.matrix_fma},
        fused_tails={p: t for p, t in tails.items() if p in device.matrix_fma},
        winograd_gain=max(1.0, v["winograd_gain"]) if device.winograd_gain > 1 else 1.0,
        **{name: v[name] for name in _COPIED},
    )


@dataclass(frozen=True)
class Batch:
    """Kernels with the same device and precision; ``row`` is the row of each, ``count`` how often it occurs there."""

    device: Device
    precision: Precision
    sizes: Sizes
    row: NDArray[np.int64]
    count: Floats


class Problem:
    """Rows and their kernels, stacked so that one evaluation of all rows is a few dozen array operations."""

    def __init__(self, rows: Sequence[Row], kernels: Mapping[str, Counted]) -> None:
        self.rows = tuple(rows)
        self.measured_ms = np.array([r.latency_ms for r in rows], dtype=np.float64)
        self.harness = {h: np.array([r.harness == h for r in rows], dtype=np.float64) for h in HARNESSES}
        members_of: dict[tuple[object, ...], list[tuple[int, object, int]]] = defaultdict(list)
        devices: dict[tuple[object, ...], tuple[Device, Precision]] = {}
        for i, row in enumerate(rows):
            device = row.device()
            for kernel, count in kernels[row.kernels]:
                batched = with_batch(kernel, row.batch)
                precision = device.supported(row.precision)
                if precision == "int8" and not runs_int8(kernel):
                    precision = device.supported("fp16")
                key = (
                    row.target, device.power_mode, device.clock_mhz, device.dram_gb_per_s, precision,
                    kernel.kind, kernel.epilogue, kernel.weighted,
                )  # fmt: skip
                members_of[key].append((i, batched, count))
                devices[key] = (device, precision)
        self.batches = [
            Batch(
                *devices[key],
                stack([k for _, k, _ in members]),  # type: ignore[misc]
                np.array([i for i, _, _ in members], dtype=np.int64),
                np.array([c for _, _, c in members], dtype=np.float64),
            )
            for key, members in members_of.items()
        ]

    def predict_ms(self, log_values: Floats) -> Floats:
        """Latencies of all rows, shape (rows,)."""
        v = dict(zip(NAMES, np.exp(log_values).tolist(), strict=True))
        total_us = (
            v["call_us"] + v["python_us"] * self.harness["python"] + v["transfers_us"] * self.harness["transfers"]
        )
        for batch in self.batches:
            device = with_parameters(batch.device, log_values)
            times = sizes_latency_us(batch.sizes, batch.precision, "dense", device) * batch.count
            total_us += np.bincount(batch.row, times, minlength=len(self.rows))
        total_us = total_us * np.where(self.harness["mlperf"] > 0, v["mlperf_gain"], 1.0)
        return np.asarray(total_us / 1e3, dtype=np.float64)


def prior() -> Floats:
    """Logarithms of the prior medians."""
    return np.log([p.median for p in PARAMETERS])


def fit(problem: Problem, start: Floats | None = None, evaluations: int = 20) -> Floats:
    """Logarithms of the parameters that explain the rows best: soft-L1 loss of log latency plus the prior."""
    from scipy.optimize import least_squares

    centre, spread = prior(), np.array([p.spread for p in PARAMETERS])
    if not all(_has_tensor_cores(b.device) for b in problem.batches):
        # The prior for depthwise kernels comes from devices with tensor cores.
        spread[NAMES.index("depthwise_efficiency")] *= 4
    upper = np.log([p.limit for p in PARAMETERS])
    logs = np.log(problem.measured_ms)

    def residuals(values: Floats) -> Floats:
        rows = (np.log(problem.predict_ms(values)) - logs) / ROW_SPREAD
        robust = np.sign(rows) * np.sqrt(2 * (np.sqrt(1 + rows**2) - 1))
        return np.concatenate([robust, (values - centre) / spread])

    first = np.minimum(centre if start is None else start, upper - 1e-3)
    bounds = (np.full_like(centre, -np.inf), upper)
    return np.asarray(least_squares(residuals, first, bounds=bounds, diff_step=1e-3, max_nfev=evaluations).x)


def _has_tensor_cores(device: Device) -> bool:
    return max(device.matrix_fma.values()) > 2 * device.vector_fma


def leave_out(rows: Sequence[Row], kernels: Mapping[str, Counted], start: Floats, key: Callable[[Row], str]) -> Floats:
    """Prediction of every row by a fit without the rows of the same key; milliseconds, shape (rows,).

    Args:
        rows: all rows.
        kernels: kernels of their models.
        start: start of every fit: the parameters fitted to all rows.
        key: of a row, such as its model or its target.
    """
    predicted = np.zeros(len(rows))
    for left_out in sorted({key(r) for r in rows}):
        inside = [i for i, r in enumerate(rows) if key(r) == left_out]
        others = [r for r in rows if key(r) != left_out]
        values = fit(Problem(others, kernels), start, evaluations=3) if others else prior()
        predicted[inside] = Problem([rows[i] for i in inside], kernels).predict_ms(values)
    return predicted


@dataclass(frozen=True)
class Quality:
    """Absolute relative errors as fractions, and the rank correlation."""

    rows: int
    models: int
    median: float
    p90: float
    rank_correlation: float

    def __str__(self) -> str:
        figures = f"median {self.median:6.1%}  p90 {self.p90:6.1%}  rank {self.rank_correlation:.3f}"
        return f"{self.rows:3d} rows, {self.models:2d} models: {figures}"


def quality(rows: Sequence[Row], predicted_ms: Floats) -> Quality:
    """Errors of predictions."""
    from scipy.stats import spearmanr

    measured = np.array([r.latency_ms for r in rows])
    error = np.abs(predicted_ms / measured - 1)
    distinct = len(set(measured.tolist())) > 1 and len(set(predicted_ms.tolist())) > 1
    rank = float(spearmanr(measured, predicted_ms)[0]) if distinct else 1.0
    return Quality(
        len(rows), len({r.architecture for r in rows}), float(np.median(error)), float(np.quantile(error, 0.9)), rank
    )


def families() -> dict[str, list[str]]:
    """Family -> its targets with an analytic profile."""
    result: dict[str, list[str]] = defaultdict(list)
    for name in target_names():
        document = load_profile(name).document
        if document["source"] == "analytic":
            result[document["family"]].append(name)
    return dict(result)
