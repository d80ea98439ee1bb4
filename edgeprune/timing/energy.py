"""Energy of an inference, from samples of power sensors while the device idles and while it runs a model in a loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WHOLE_MODULE = ("VDD_IN", "POM_5V_IN", "5V_IN")
"""Rails that feed the whole module; where there is none of them, the others are added up."""

LEAST_SAMPLES = 3


@dataclass(frozen=True)
class Energy:
    """What an inference takes above idling, measured.

    Attributes:
        mj: millijoules: the power above idling times the time from one inference to the next, in a loop.
        rails: the rails whose power was added up.
        idle_mw: median power while the device idled, milliwatts.
        busy_mw: median power in the loop.
        period_ms: time from one inference to the next.
        samples: of the sensors in the loop.
    """

    mj: float
    rails: tuple[str, ...]
    idle_mw: float
    busy_mw: float
    period_ms: float
    samples: int


def energy_of(idle: str, busy: str, period_ms: float, seconds: float) -> Energy | None:
    """The energy from two logs of sensors; None if they have too few samples, or none in the loop above idling.

    Args:
        idle: one line for each sample of a rail: seconds, the rail, millivolts, milliamperes.
        busy: likewise, to the end of the loop.
        period_ms: time from one inference to the next in the loop.
        seconds: length of the loop. What was sampled before it began is left out: the program loads the engine.
    """
    resting, working = _samples(idle), _samples(busy)
    rails = _rails(sorted(resting.keys() & working.keys()))
    if not rails or period_ms <= 0:
        return None
    end = max(at for rail in rails for at, _ in working[rail])
    loop = {rail: [mw for at, mw in working[rail] if at >= end - 0.9 * seconds] for rail in rails}
    fewest = min(len(values) for values in loop.values())
    if fewest < LEAST_SAMPLES:
        return None
    idle_mw = sum(median(mw for _, mw in resting[rail]) for rail in rails)
    busy_mw = sum(median(values) for values in loop.values())
    if busy_mw <= idle_mw:
        return None
    return Energy((busy_mw - idle_mw) * period_ms / 1e3, rails, idle_mw, busy_mw, period_ms, fewest)


def _rails(names: Sequence[str]) -> tuple[str, ...]:
    whole = [name for name in names if name in WHOLE_MODULE]
    return tuple(whole[:1] or names)


def _samples(log: str) -> dict[str, list[tuple[float, float]]]:
    """Rail -> time in seconds and power in milliwatts of each sample; lines that were cut off are left out."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in log.splitlines():
        at, _, rest = line.partition(" ")
        name, _, numbers = rest.partition("|")
        try:
            volts, amperes = (float(part) for part in numbers.split())
            found[name.strip()].append((float(at), volts * amperes / 1e3))
        except ValueError:
            continue
    return dict(found)
