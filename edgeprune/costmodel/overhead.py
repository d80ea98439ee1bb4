"""Where the overhead of kernels bounds a network: what share of the time it is, and what helps instead of pruning.

A kernel has a fixed price, however little it computes: its launch, its ramp, and the gap to the next one. Pruning makes
kernels smaller, not fewer, so it can only shorten the rest of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.costmodel.cost import latencies_us, with_batch
from edgeprune.costmodel.kernel import Kernel
from edgeprune.devices import Device, Precision, Profile

BOUND = 0.25
"""From this share of overhead on it is said: YOLOv8n on an AGX Orin has 32% in FP16 and 43% in INT8."""
_BATCH = 8
_SAME = 1.1
"""A power mode counts as equally fast if its latency is at most this many times that of the chosen one."""


@dataclass(frozen=True)
class Overhead:
    """Overhead of a network's kernels; ``share`` is its part of the whole latency, as a fraction."""

    kernels: int
    kernel_us: float
    share: float

    @property
    def bounds(self) -> bool:
        """Whether so much of the latency is overhead that the user should know."""
        return self.share >= BOUND


def overhead(kernels: Sequence[Kernel], total_us: float, device: Device) -> Overhead:
    """The overhead of a network whose whole latency is known.

    Args:
        kernels: of the network.
        total_us: its latency, microseconds.
        device: on which it runs.
    """
    count = sum(k.repeats for k in kernels)
    return Overhead(
        count, device.launch_us, min(1.0, (count * device.launch_us + device.call_us) / max(total_us, 1e-9))
    )


def what_helps(
    kernels: Sequence[Kernel],
    precisions: Sequence[Precision],
    profile: Profile,
    power_mode: str | None = None,
    whole_us: float | None = None,
) -> list[str]:
    """Sentences on a network of which a large part is the overhead of its kernels; none on any other network.

    Args:
        kernels: of the network.
        precisions: of each kernel.
        profile: of the target.
        power_mode: one of its power modes; by default the fastest.
        whole_us: the predicted latency, if it has more than these kernels, such as reformats between precisions.
    """
    device = profile.device(power_mode)
    total_us = _total_us(kernels, precisions, device)
    more = 1.0 if whole_us is None else whole_us / total_us
    total_us *= more
    found = overhead(kernels, total_us, device)
    if not found.bounds:
        return []
    eight_us = more * _total_us([with_batch(k, _BATCH) for k in kernels], precisions, device) / _BATCH
    helps = [f"a batch of {_BATCH} takes {eight_us / 1e3:.3g} ms for each sample"]
    if saved_us := found.kernels * profile.graph_saves_us:
        helps.append(
            f"CUDA graph replay (--cuda-graph) saves about {saved_us / 1e3:.2g} ms, and more where the CPU is the limit"
        )
    helps.append("a larger network can be pruned to the same time")
    watts = profile.power_mode(power_mode).watts or float("inf")
    modes = [m for m in profile.power_modes if m.watts is not None and m.watts < watts]
    for mode in sorted(modes, key=lambda m: m.watts or 0.0):
        slower = more * _total_us(kernels, precisions, profile.device(mode.name))
        if slower <= _SAME * total_us:
            helps.append(f"power mode {mode.name} takes {slower / 1e3:.3g} ms, nearly the same")
            break
    return [
        f"{found.share:.0%} of the predicted {total_us / 1e3:.3g} ms is the overhead of {found.kernels} kernels "
        f"({found.kernel_us:.1f} us each), which pruning cannot shorten; what helps: {'; '.join(helps)}"
    ]


def _total_us(kernels: Sequence[Kernel], precisions: Sequence[Precision], device: Device) -> float:
    return float(np.sum(latencies_us(kernels, precisions, device))) + device.call_us
