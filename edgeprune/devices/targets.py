"""Targets by name: their profiles, power modes and cost-model devices."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from edgeprune.devices.energy_rates import EnergyRates, energy_rates
from edgeprune.devices.operating_point import Device, Precision
from edgeprune.devices.profile_schema import validate
from edgeprune.devices.runtimes import Runtime, runtime_of
from edgeprune.errors import ProfileError, TargetError

_NOT_PROFILES = frozenset({"schema.json"})
_FUSED_ATTENTION = 7.5
"""Least compute capability for which TensorRT has a fused attention in 16 bits."""
_NEEDED_TO_COMPUTE = (
    *("architecture", "family", "l2_mb", "matrix_fma_per_clock_per_sm", "vector_fma_per_clock_per_sm"),
    *("power_modes", "default_power_mode", "cost_model"),
)


def watts_of(mode: str) -> float | None:
    """The power budget that the name of a power mode states, such as ``15W``; None for MAXN."""
    digits = mode.removesuffix("W")
    return float(digits) if digits.isdigit() else None


@dataclass(frozen=True)
class PowerMode:
    """A power mode by NVIDIA's name, with its clocks."""

    name: str
    sms: int
    gpu_mhz: float
    dram_gb_per_s: float
    note: str = ""

    @property
    def watts(self) -> float | None:
        """The power budget of the module, if the mode's name states it (``15W``)."""
        return watts_of(self.name)


@dataclass(frozen=True)
class ErrorEstimate:
    """Quantiles of the absolute relative error against published latencies, as fractions."""

    method: str
    rows: int
    models: int
    median: float
    p90: float
    rank_correlation: float | None
    families: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    precisions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, family: str) -> tuple[float, float]:
        """Median and 90th percentile for networks of a family; never less than those of all rows of the claim."""
        own = self.families.get(family)
        return (max(self.median, own["median"]), max(self.p90, own["p90"])) if own else (self.median, self.p90)


@dataclass(frozen=True)
class Fitted:
    """The range on which the parameters were fitted; a prediction outside of it is an extrapolation.

    ``gmacs`` is the range of model sizes, in billions of multiply-adds. ``kinds`` is the largest share of its time that
    a fitted model spends in kernels of each kind.
    """

    devices: tuple[str, ...]
    power_modes: tuple[str, ...]
    precisions: tuple[str, ...]
    gmacs: tuple[float, float]
    kinds: Mapping[str, float]


@dataclass(frozen=True)
class Profile:
    """A validated hardware profile. ``document`` is the file; the other fields are its parts in typed form."""

    document: Mapping[str, Any]
    power_modes: tuple[PowerMode, ...]
    error: ErrorEstimate | None
    fitted: Fitted | None

    @property
    def name(self) -> str:
        """The target's name."""
        return str(self.document["name"])

    @property
    def title(self) -> str:
        """The device's full name."""
        return str(self.document["title"])

    @property
    def source(self) -> str:
        """``analytic``, or ``measured at first use``."""
        return str(self.document["source"])

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions of the device's convolutions and MatMuls."""
        return tuple(self.document["precisions"])

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of the runtimes that can run a result on the device, the default first."""
        return tuple(self.document.get("runtimes", ("tensorrt",)))

    def runtime(self, name: str | None = None) -> Runtime:
        """A runtime of the device by name; by default its first.

        Raises:
            UsageError: the device has no such runtime.
        """
        return runtime_of(self.name, self.runtimes, name)

    @property
    def tensorrt(self) -> tuple[str, ...]:
        """TensorRT versions of its system software, oldest first."""
        return tuple(self.document.get("tensorrt", ()))

    def channel_step(self, precision: str, sparsity: str = "dense") -> int:
        """Multiple to which channel counts should be pruned."""
        steps = self.document["channel_step"]
        return int(steps.get(precision if sparsity == "dense" else f"{precision} {sparsity}", steps["fp32"]))

    @property
    def has_sparse_products(self) -> bool:
        """Whether its tensor cores are faster with 2:4 weights."""
        return bool(self.document.get("sparsity", {}).get("2:4", False))

    @property
    def published_sparse_gains(self) -> dict[Precision, float]:
        """Precision -> ratio of dense to 2:4 time that was published for products of 256 channels or more."""
        return _by_precision(self.document.get("sparsity", {}).get("published_gain", {}))

    @property
    def fp8_gain(self) -> float | None:
        """How many times as fast a Linear is in FP8 as in FP16, as published; None if the device has no FP8."""
        found = self.document.get("fp8")
        return None if found is None else float(found["published_gain"])

    @property
    def energy(self) -> EnergyRates | None:
        """From what the energy of an inference is predicted; None if no power of the device was published."""
        return energy_rates(self.document)

    @property
    def graph_saves_us(self) -> float:
        """Microseconds that CUDA graph replay saves for each kernel, as published; 0 if nothing is known."""
        return float(self.document.get("cuda_graph", {}).get("saves_us_per_kernel", 0.0))

    def power_mode(self, name: str | None = None) -> PowerMode:
        """A power mode by name; by default the fastest.

        Raises:
            TargetError: if the device has no power mode of that name; the text lists its power modes.
        """
        if not self.power_modes:
            raise TargetError(f"target {self.name} has no power modes: it is {self.source}")
        wanted = name or str(self.document["default_power_mode"])
        for mode in self.power_modes:
            if mode.name.lower() in (wanted.lower(), f"mode_{wanted}".lower()):
                return mode
        known = ", ".join(m.name for m in self.power_modes)
        raise TargetError(f"target {self.name} has no power mode {wanted!r}; it has {known}")

    def device(self, power_mode: str | None = None) -> Device:
        """The device's rates in one power mode, for the cost model.

        Raises:
            ProfileError: if the profile is not analytic.
            TargetError: if there is no such power mode.
        """
        document = self.document
        if self.source != "analytic" or "cost_model" not in document:
            raise ProfileError(
                f"target {self.name} has no analytic latency model: its latencies are {self.source}; "
                "`edgeprune bench` measures a model"
            )
        mode = self.power_mode(power_mode)
        model = {k: v for k, v in document["cost_model"].items() if k != "tiles"}
        return Device(
            name=self.name,
            power_mode=mode.name,
            sms=mode.sms,
            clock_mhz=mode.gpu_mhz,
            dram_gb_per_s=mode.dram_gb_per_s,
            l2_mb=float(document["l2_mb"]),
            matrix_fma=_by_precision(document["matrix_fma_per_clock_per_sm"]),
            vector_fma=float(document["vector_fma_per_clock_per_sm"]),
            tiles=tuple((int(m), int(n)) for m, n in document["cost_model"]["tiles"]),
            fused_attention=float(document["architecture"]["compute_capability"]) >= _FUSED_ATTENTION,
            sparse_gains=_by_precision(document.get("sparsity", {}).get("measured_gain", {})),
            published_sparse_gains=self.published_sparse_gains,
            **model,
        )


def load_profile(name: str) -> Profile:
    """Find a target by name or alias.

    Raises:
        TargetError: if it is unknown; the text lists similar names, or all.
        ProfileError: if its file is not valid.
    """
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-")
    index = _index()
    if wanted in index:
        return _read(index[wanted])
    near = difflib.get_close_matches(wanted, index, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known targets: {', '.join(target_names())}"
    raise TargetError(f"unknown target {name!r}; {hint}")


def target_names() -> tuple[str, ...]:
    """Names of all targets, sorted."""
    return tuple(sorted(set(_index().values())))


@cache
def _index() -> dict[str, str]:
    """Name or alias -> name."""
    index: dict[str, str] = {}
    for entry in files("edgeprune.hwprofiles").iterdir():
        if entry.name.endswith(".json") and entry.name not in _NOT_PROFILES:
            document = json.loads(entry.read_text(encoding="utf-8"))
            for alias in (document["name"], *document.get("aliases", ())):
                index[alias] = document["name"]
    return index


@cache
def _read(name: str) -> Profile:
    file = f"{name}.json"
    try:
        document = json.loads((files("edgeprune.hwprofiles") / file).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ProfileError(f"profile {file} cannot be read: {error}") from error
    return parse_profile(document, file)


def parse_profile(document: Mapping[str, Any], where: str) -> Profile:
    """Validate a profile and give its parts types.

    Raises:
        ProfileError: a field is not valid; the text names ``where`` and the field.
    """
    validate(document, where)
    if document["source"] == "analytic":
        for key in _NEEDED_TO_COMPUTE:
            if key not in document:
                raise ProfileError(f"profile {where}: an analytic profile needs {key!r}")
        if document["default_power_mode"] not in [m["name"] for m in document["power_modes"]]:
            raise ProfileError(
                f"profile {where}: default_power_mode {document['default_power_mode']!r} is not one of power_modes"
            )
    error, fitted = document.get("error"), document.get("fitted")
    return Profile(
        document,
        tuple(PowerMode(**m) for m in document.get("power_modes", ())),
        ErrorEstimate(**{"rank_correlation": None, **error}) if error else None,
        _fitted(fitted) if fitted else None,
    )


def _fitted(document: Mapping[str, Any]) -> Fitted:
    low, high = document["gmacs"]
    return Fitted(
        devices=tuple(document["devices"]),
        power_modes=tuple(document["power_modes"]),
        precisions=tuple(document["precisions"]),
        gmacs=(float(low), float(high)),
        kinds=dict(document["kinds"]),
    )


def _by_precision(numbers: Mapping[str, float]) -> dict[Precision, float]:
    known: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    return {p: float(numbers[p]) for p in known if p in numbers}
