"""Short measurements, for tests of what is done with latencies: these need no narrow intervals."""

from __future__ import annotations

import functools

import pytest

from edgeprune.backends import block_trace
from edgeprune.compiler import layer_details, open_session
from edgeprune.latency import cpu_model, timing_harness
from edgeprune.timing import benchmark


def time_quickly(patch: pytest.MonkeyPatch) -> None:
    """Every measurement on this machine takes about a tenth of its usual time."""
    patch.setattr(timing_harness, "QUICK_SECONDS", 0.3)
    patch.setattr(timing_harness, "LEAST_FINAL_SECONDS", 0.3)
    patch.setattr(timing_harness, "FINAL_SECONDS", 1.0)
    patch.setattr(cpu_model, "SECONDS_PER_VARIANT", 0.04)
    patch.setattr(block_trace, "PACE_SECONDS", 0.01)
    patch.setattr(layer_details, "TRACE_SECONDS", 0.05)
    short = functools.partial(benchmark, min_seconds=0.0, max_seconds=0.3, block_s=0.02)
    patch.setattr(open_session, "benchmark", short)
