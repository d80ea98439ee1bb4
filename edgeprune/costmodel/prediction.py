"""Predicted latency of a whole model on a target that is not attached: the sum over the kernels of the runtime.

A prediction is not a measurement: it states the error of its profile, and where it extrapolates beyond the models on
which the profile was fitted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Literal

import onnx_ir as ir

from edgeprune.costmodel.cost import kernel_cost, latencies_us, runs_int8, stack
from edgeprune.costmodel.data_dependent import data_dependent
from edgeprune.costmodel.fusion import fuse
from edgeprune.costmodel.kernel import Family, Kernel, family_of
from edgeprune.costmodel.kernels import kernels_from
from edgeprune.costmodel.overhead import overhead, what_helps
from edgeprune.costmodel.plugins import plugin_notes
from edgeprune.costmodel.precision_mix import fastest_mix, reformats_us
from edgeprune.devices import Device, Precision, Profile, load_profile
from edgeprune.errors import UsageError
from edgeprune.graph import warnings_of
from edgeprune.passes.tensorrt import int8_eligible
from edgeprune.support import plural

Wanted = Literal["fp32", "fp16", "int8", "fp8", "best"]
WANTED: tuple[Wanted, ...] = ("fp32", "fp16", "int8", "fp8", "best")

_FP8_GROUND = (
    "FP8 in {} MatMuls is priced from published ratios ({:g} times the speed of FP16), and was never measured here"
)
_EXTRAPOLATION = 1.5
"""A model's size may lie outside the fitted range by this factor without a warning."""
_NAMES_SHOWN = 3
_UNUSUAL_SHARE = 0.15
"""A kind of kernel may take this much more of the latency than in any fitted model without a warning."""


@dataclass(frozen=True)
class KernelTime:
    """A kernel and its predicted latency; ``bound`` is its largest part: launch, compute or memory."""

    name: str
    kind: str
    precision: str
    latency_us: float
    share: float
    bound: str


@dataclass(frozen=True)
class Prediction:
    """Predicted latency of a model.

    ``error`` and ``error_p90`` are the median and the 90th percentile of the profile's absolute relative error on
    models of the same ``family`` that it was not fitted on, as fractions. ``outside`` has one sentence for each way in
    which the prediction extrapolates. ``kernel_count`` counts each run of a repeated kernel. ``overhead_share`` is
    the fraction of the latency that is their overhead; ``advice`` says what helps if this is most of it.
    ``energy_mj_at_most`` is the power mode's watts times the latency; None if the mode states no watts.
    """

    latency_ms: float
    error: float
    error_p90: float
    target: str
    power_mode: str
    precision: str
    source: str
    kernel_count: int
    gmacs: float
    energy_mj_at_most: float | None
    family: Family
    overhead_share: float
    advice: tuple[str, ...]
    outside: tuple[str, ...]
    kernels: tuple[KernelTime, ...]

    def to_json(self, costliest: int = 10) -> dict[str, object]:
        """The object that ``edgeprune predict --json`` prints, with the slowest kernels first."""
        return {
            "latency_ms": round(self.latency_ms, 4),
            "error": round(self.error, 4),
            "error_p90": round(self.error_p90, 4),
            "target": self.target,
            "power_mode": self.power_mode,
            "precision": self.precision,
            "source": self.source,
            "measured": False,
            "outside_fit": list(self.outside),
            "kernel_count": self.kernel_count,
            "gmacs": round(self.gmacs, 4),
            "energy_mj_at_most": None if self.energy_mj_at_most is None else round(self.energy_mj_at_most, 3),
            "family": self.family,
            "overhead_share": round(self.overhead_share, 4),
            "advice": list(self.advice),
            "kernels": [
                asdict(replace(k, latency_us=round(k.latency_us, 2), share=round(k.share, 4)))
                for k in self.costliest(costliest)
            ],
        }

    def costliest(self, count: int) -> list[KernelTime]:
        """The kernels with the largest latency, the slowest first."""
        return sorted(self.kernels, key=lambda k: -k.latency_us)[:count]


def predict(
    path: str | PathLike[str],
    target: str,
    power_mode: str | None = None,
    precision: Wanted | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Prediction:
    """Predict the latency of an ONNX file, unpruned, on a target.

    Args:
        path: the model.
        target: name of the target.
        power_mode: NVIDIA's name of one of the target's power modes; by default the fastest.
        precision: ``fp32`` as TensorRT runs it (TF32 if the device has it), ``fp16``, or ``int8``: the fastest mix of
            INT8 and 16 bits, as a compile places it if no accuracy is lost; ``best`` is the same. By default the
            graph's own: INT8 if it is quantized, 16 bits elsewhere. ``fp8``: FP8 in the Linears and 16 bits elsewhere.
        shapes: input name -> dimensions, to fix symbolic ones. A symbolic batch is 1 unless it is fixed; other sizes
            are proposed, and a sentence in ``outside`` says so.

    Raises:
        TargetError: the target or the power mode is unknown.
        ProfileError: the target has no analytic profile.
        ModelError: the model cannot be read, or its shapes are not known.
        UsageError: the precision is unknown, or the shapes do not fit.
    """
    from edgeprune import graph
    from edgeprune.passes.dequantize import with_pairs
    from edgeprune.passes.verify import settle_sizes

    profile = load_profile(target)
    profile.device(power_mode)
    model = graph.load(path)
    sizes = settle_sizes(model, shapes)
    graph.infer_shapes(model, sizes.shapes)
    found = model_latency_us(with_pairs(model), profile, precision, power_mode=power_mode)
    return replace(found, outside=(*sizes.sentences(), *found.outside))


def model_latency_us(
    model: ir.Model,
    profile: Profile,
    precision: Wanted | None = None,
    *,
    power_mode: str | None = None,
    precisions: Mapping[str, Precision] | None = None,
) -> Prediction:
    """Predict the latency of a canonical model.

    Args:
        model: the model, with all shapes known.
        profile: an analytic profile.
        precision: as in :func:`predict`.
        power_mode: one of the target's power modes; by default the fastest.
        precisions: node name -> precision, for a mixed plan; a kernel whose anchor is not named takes ``precision``.
            If a tensor is read both in INT8 and in 16 bits, its reformat is a further kernel.

    Raises:
        ModelError: a shape is not known.
        ProfileError: the profile is not analytic.
        UsageError: the precision is unknown.
    """
    device = profile.device(power_mode)
    fused = fuse(model)
    kernels = kernels_from(fused)
    chosen = [_precision(k, precision, precisions or {}, device) for k in kernels]
    stated = any(k.quantized for k in kernels)
    if precision in ("int8", "best") and not precisions and not stated:
        chosen = fastest_mix(kernels, [name for name, may in int8_eligible(model).items() if may], device, fused.shapes)
    times = latencies_us(kernels, chosen, device, mixed=False)
    reformats = reformats_us(kernels, chosen, device, fused.shapes)
    linears = [i for i, k in enumerate(kernels) if precision == "fp8" and k.kind == "matmul" and k.weighted]
    if precision == "fp8":
        times[linears] /= _fp8_gain(profile)
    total_us = float(times.sum()) + reformats + device.call_us
    rows = [
        KernelTime(k.anchor, k.kind, "fp8" if i in linears else p, float(t), float(t) / total_us, _bound(k, p, device))
        for i, (k, p, t) in enumerate(zip(kernels, chosen, times, strict=True))
    ]
    gmacs = sum(k.macs for k in kernels) / 1e9
    watts = profile.power_mode(power_mode).watts
    family = family_of((k, 1) for k in kernels)
    error, error_p90 = profile.error.of(family) if profile.error else (1.0, 1.0)
    return Prediction(
        latency_ms=total_us / 1e3,
        error=error,
        error_p90=error_p90,
        target=profile.name,
        power_mode=device.power_mode,
        precision=precision or ("as quantized" if any(k.quantized for k in kernels) else "fp16"),
        source=profile.source,
        kernel_count=sum(k.repeats for k in kernels),
        gmacs=gmacs,
        energy_mj_at_most=None if watts is None else watts * total_us / 1e3,
        family=family,
        overhead_share=overhead(kernels, total_us, device).share,
        advice=tuple(what_helps(kernels, chosen, profile, power_mode, total_us)),
        outside=(
            *warnings_of(model),
            *([_FP8_GROUND.format(len(linears), _fp8_gain(profile))] if linears else []),
            *plugin_notes(model, device, counted=True),
            *_outside(profile, device, set(chosen), gmacs, rows),
            *_longest(model),
            *fused.notes,
        ),
        kernels=tuple(rows),
    )


def _fp8_gain(profile: Profile) -> float:
    if profile.fp8_gain is None:
        raise UsageError(f"target {profile.name} has no FP8: it needs compute capability 8.9 or newer")
    return profile.fp8_gain


def _precision(kernel: Kernel, wanted: Wanted | None, precisions: Mapping[str, Precision], device: Device) -> Precision:
    if wanted is not None and wanted not in WANTED:
        raise UsageError(f"unknown precision {wanted!r}; known are {', '.join(WANTED)}")
    if kernel.anchor in precisions:
        named = precisions[kernel.anchor]
    elif wanted is None:
        named = "int8" if kernel.quantized else "fp16"
    else:
        named = "int8" if wanted == "best" else "fp16" if wanted == "fp8" else wanted
    supported = device.supported(named)
    return supported if supported != "int8" or runs_int8(kernel) else device.supported("fp16")


def _bound(kernel: Kernel, precision: Precision, device: Device) -> str:
    cost = kernel_cost(stack([kernel]), precision, "dense", device)
    parts = {
        "launch": float(cost.overhead_us.sum()),
        "compute": float(cost.compute_us.sum()),
        "memory": float(cost.memory_us.sum() + cost.tail_us.sum()),
    }
    return max(parts, key=lambda part: parts[part])


def _outside(
    profile: Profile, device: Device, precisions: set[Precision], gmacs: float, rows: Sequence[KernelTime]
) -> list[str]:
    """One sentence for each way in which a prediction extrapolates."""
    fitted = profile.fitted
    if fitted is None or not fitted.devices:
        return [f"no published latency of {profile.name} or of a device of its family was fitted"]
    sentences = []
    if profile.name not in fitted.devices:
        sentences.append(f"{profile.name} itself was not fitted: parameters come from {', '.join(fitted.devices)}")
    elif device.power_mode not in fitted.power_modes:
        sentences.append(
            f"power mode {device.power_mode} was not fitted: scaled from {', '.join(fitted.power_modes)} by clocks"
        )
    if missing := sorted(precisions - set(fitted.precisions)):
        sentences.append(f"no published {', '.join(missing)} latency was fitted, only {', '.join(fitted.precisions)}")
    low, high = fitted.gmacs
    if not low / _EXTRAPOLATION <= gmacs <= high * _EXTRAPOLATION:
        sentences.append(f"the model has {gmacs:.2f} billion multiply-adds, the fitted ones {low:.2f} to {high:.2f}")
    shares: dict[str, float] = defaultdict(float)
    for row in rows:
        shares[row.kind] += row.share
    for kind, share in shares.items():
        if kind == "unknown":
            names = [r.name for r in rows if r.kind == "unknown"]
            shown = ", ".join(names[:_NAMES_SHOWN]) + (" ..." if len(names) > _NAMES_SHOWN else "")
            sentences.append(f"{plural(len(names), 'node')} not modelled, counted as copies: {shown}")
        elif share > (most := fitted.kinds.get(kind, 0.0)) + _UNUSUAL_SHARE:
            sentences.append(f"{share:.0%} of the latency is in {kind} kernels; fitted models have at most {most:.0%}")
    return sentences


def _longest(model: ir.Model) -> list[str]:
    """One sentence for every node whose output length depends on the data."""
    return [
        f"what follows {node.op_type} {node.name!r} depends on the data, and is priced at its largest length"
        for node in data_dependent(model)
    ]
