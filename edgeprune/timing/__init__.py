"""The timing protocol: candidates take turns in short blocks.

In: callables, or times measured elsewhere.
Out: medians with 95% intervals, paired ratios, and whether the machine was disturbed during the measurement.
May import: support and below.
"""

from edgeprune.timing.drift import Disturbance, disturbance, disturbance_of_ratio
from edgeprune.timing.energy import Energy, energy_of
from edgeprune.timing.intervals import CONFIDENCE, median_interval, sigmas
from edgeprune.timing.memory import MB, Memory, memory_of
from edgeprune.timing.protocol import (
    LEAST_TURN_S,
    MOST_TURN_S,
    RUNS_PER_TURN,
    Measurement,
    OneThread,
    Ratio,
    benchmark,
    ratio,
    turn_s,
)
from edgeprune.timing.tail import Tail, tail_of
