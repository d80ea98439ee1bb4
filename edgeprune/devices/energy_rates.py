"""The energy of arithmetic and of moved bytes on a device, from published power; what follows is a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeprune.devices.operating_point import Precision


@dataclass(frozen=True)
class EnergyRates:
    """Energy above idling.

    Attributes:
        pj_per_mac: precision -> picojoules of a multiply-accumulate.
        pj_per_byte: picojoules of a byte that a kernel reads or writes.
        error: typical relative error of a prediction, as a fraction.
    """

    pj_per_mac: Mapping[Precision, float]
    pj_per_byte: float
    error: float


def energy_rates(document: Mapping[str, Any]) -> EnergyRates | None:
    """The rates in a profile; None if no power of the device was published."""
    found = document.get("energy")
    if found is None:
        return None
    known: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    rates = {p: float(found["pj_per_mac"][p]) for p in known if p in found["pj_per_mac"]}
    return EnergyRates(rates, float(found["pj_per_byte"]), float(found["error"]))
