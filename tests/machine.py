"""A made-up machine for the timing protocol: a clock that only candidates move, as noisy as wanted."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeprune.timing.protocol import Clock


@dataclass
class Machine:
    """Time is counted in nanoseconds; ``slowdown`` is what the machine does to every run at a given time."""

    seed: int = 0
    run_noise: float = 0.0
    slowdown: Callable[[int], float] = lambda now_ns: 1.0
    denied: Callable[[int], float] = lambda now_ns: 0.0
    now_ns: int = 0
    cpu_ns: int = 0
    calls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now_ns, lambda: self.cpu_ns, lambda: self.cpu_ns)

    def model(self, name: str, latency_ms: float, cold_ms: float = 0.0) -> Callable[[], None]:
        """A candidate; ``cold_ms`` is added when another candidate ran before it."""

        def run() -> None:
            cold = cold_ms if self.calls and self.calls[-1] != name else 0.0
            self.calls.append(name)
            noise = math.exp(abs(self.random.gauss(0.0, self.run_noise)))
            busy_ns = (latency_ms * noise + cold) * self.slowdown(self.now_ns) * 1e6
            self.cpu_ns += round(busy_ns)
            self.now_ns += round(busy_ns / (1 - self.denied(self.now_ns)))

        return run
