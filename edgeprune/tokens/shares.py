"""How long models with fewer tokens take, as shares of the time of the model with all tokens.

The kernels that let tokens leave are included. No block is cut: widths and formats are chosen later.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import Calibration, IntermediateOutputs
from edgeprune.costmodel import Wanted, model_latency_us
from edgeprune.devices import Profile
from edgeprune.graph import count_macs
from edgeprune.latency import Lowering, TimingHarness
from edgeprune.quantization import extremes
from edgeprune.timing import ratio

AT_A_TIME = 5
"""Models that are timed in turns; the model with all tokens is among them every time."""


def predicted_shares(
    whole: ir.Model, models: Sequence[ir.Model], profile: Profile, power_mode: str | None, *, int8: bool
) -> list[float]:
    """By the analytic model of a target, each model in the fastest precision.

    Args:
        whole: with all tokens and fixed shapes.
        models: with fewer tokens and fixed shapes.
        profile: of the target.
        power_mode: of the target; None for the fastest.
        int8: whether INT8 may be used.
    """
    wanted: Wanted = "fp16" if "fp16" in profile.precisions else "fp32"
    if int8 and "int8" in profile.precisions:
        wanted = "best"

    def us(model: ir.Model) -> float:
        return model_latency_us(model, profile, wanted, power_mode=power_mode).latency_ms

    whole_us = us(whole)
    return [us(model) / whole_us for model in models]


def cpu_shares(
    whole: ir.Model,
    models: Sequence[ir.Model],
    kinds: Sequence[Hashable],
    harness: TimingHarness,
    lowering: Lowering,
    data: Calibration,
    *,
    int8: bool,
) -> list[float]:
    """Measured on the CPU in turns, all in INT8 if that may be used, else in float.

    Models with the same kernels differ by their multiply-accumulates alone. So of each kind the two ends are measured,
    and the times of the others lie between them: on a ViT of 50 tokens they are right within 2% of the whole.

    Args:
        whole: with all tokens and fixed shapes.
        models: with fewer tokens and fixed shapes.
        kinds: of each model; those of one kind have the same kernels.
        harness: times models.
        lowering: to the runtime of the harness.
        data: the first sample gives the ranges.
        int8: whether INT8 may be used.
    """
    macs = np.array([sum(count_macs(model).values()) for model in models], np.float64)
    same = [np.array([k for k, other in enumerate(kinds) if other == kind]) for kind in dict.fromkeys(kinds)]
    ends = sorted({int(of[pick(macs[of])]) for of in same for pick in (np.argmin, np.argmax)})
    shares = np.full(len(models), np.nan)
    shares[ends] = _measured(whole, [models[k] for k in ends], harness, lowering, data, int8=int8)
    for of in same:
        first, last = of[macs[of].argmin()], of[macs[of].argmax()]
        shares[of] = np.interp(macs[of], macs[[first, last]], shares[[first, last]])
    return [float(share) for share in shares]


def _measured(
    whole: ir.Model,
    models: Sequence[ir.Model],
    harness: TimingHarness,
    lowering: Lowering,
    data: Calibration,
    *,
    int8: bool,
) -> list[float]:
    found: list[float] = []
    reference = _lowered(whole, lowering, data, harness.threads, int8=int8)
    for start in range(0, len(models), AT_A_TIME):
        batch = models[start : start + AT_A_TIME]
        some = {str(k): _lowered(m, lowering, data, harness.threads, int8=int8) for k, m in enumerate(batch)}
        timed = harness.quick({"whole": reference, **some})
        found += [1 / ratio(timed["whole"], timed[name]).value for name in some]
    return found


def _lowered(model: ir.Model, lowering: Lowering, data: Calibration, threads: int, *, int8: bool) -> ir.Model:
    """The model as it would run, with ranges from one sample: they do not change its time."""
    nodes = [name for name, verdict in lowering.int8_eligible(model).items() if verdict] if int8 else []
    names = lowering.values_to_quantize(model, nodes)
    ranges = extremes(IntermediateOutputs(model, names, threads), data.subset(1).batches(1)) if names else {}
    return lowering.lowered(model, nodes, ranges)
