"""Options of a compile for a GPU, and the formats and TensorRT versions that follow from them and the target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.backends import DeviceResult
from edgeprune.devices import Profile
from edgeprune.errors import TargetError, UsageError
from edgeprune.latency import INT8, Format
from edgeprune.passes.tensorrt import NEWEST, OLDEST, STRONGLY_TYPED


@dataclass(frozen=True)
class Options:
    """Options of a compile for a GPU.

    Attributes:
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``.
        sparsity: ``auto``, ``none`` or ``2:4``.
        power_mode: power mode of the device; by default the fastest.
        profile: file of a device profile of the model; by default the kept one, if there is one.
        rank: ``auto`` if layers may become two of low rank, or ``none``.
        tune_minutes: how long the attached device measures which kernels are faster in INT8; None for not at all.
    """

    precision: str = "auto"
    sparsity: str = "auto"
    power_mode: str | None = None
    profile: Path | None = None
    rank: str = "auto"
    tune_minutes: float | None = None


def formats_of(precision: str, profile: Profile) -> tuple[Format, ...]:
    """Formats that a kernel may have, the float one first: 16 bits unless float32 is requested, then INT8."""
    floating = "fp16" if precision != "fp32" and "fp16" in profile.precisions else "fp32"
    quantizes = precision in ("auto", "int8") and INT8 in profile.precisions
    return (floating, INT8) if quantizes else (floating,)


def versions_of(profile: Profile) -> tuple[str, ...]:
    """TensorRT versions that have to build a lowered graph.

    From 10 on graphs are strongly typed, and a graph for them also builds on 11. Devices that stay on 8.x get a graph
    that all their versions build.

    Raises:
        TargetError: the device's TensorRT is too old for a graph that states its precision.
    """
    known = {tuple(int(part) for part in text.split(".")[:2]): text for text in profile.tensorrt}
    if strong := [text for version, text in known.items() if version >= STRONGLY_TYPED]:
        return (*strong, NEWEST)
    if typed := [text for version, text in known.items() if version >= OLDEST]:
        return tuple(typed)
    have = ", ".join(profile.tensorrt) or "none"
    raise TargetError(f"target {profile.name} has TensorRT {have}; graphs that state their precision need 8.5 or newer")


def check_sparsity(sparsity: str, precision: str, profile: Profile) -> None:
    """Refuse 2:4 sparsity if the device or the precision has no sparse kernels.

    Raises:
        UsageError: 2:4 sparsity was requested and is not possible.
    """
    if sparsity != "2:4":
        return
    if not profile.has_sparse_products:
        raise UsageError(f"target {profile.name} has no 2:4 sparse tensor cores, which came with Ampere")
    if precision == "fp32":
        raise UsageError("--sparsity 2:4 needs fp16 or int8: TensorRT has no sparse float32 kernels")


def operating_point(profile: Profile, power_mode: str | None, result: DeviceResult | None) -> dict[str, str]:
    """Power mode, TensorRT and clocks, for the report: of a measurement, or those that a prediction is for."""
    mode = profile.power_mode(power_mode)
    if result is None:
        versions = " or ".join(profile.tensorrt) or "not stated by the profile"
        return {"power mode": mode.name, "TensorRT": versions, "clocks": f"GPU {mode.gpu_mhz:g} MHz, assumed"}
    version = next((text for name, text in result.versions.items() if "tensorrt" in name.lower()), "not reported")
    point = {"power mode": mode.name, "TensorRT": version, "clocks": result.clocks or "not reported"}
    return point | dict(result.conditions)  # the device's own power mode, where it says so
