from __future__ import annotations

import pytest

from edgeprune.timing.memory import memory_of

BUILT = """
[I] [TRT] Total Host Persistent Memory: 148256 bytes
[I] [TRT] Total Activation Memory: 62976 bytes
[I] [TRT] Total Weights Memory: 1851804 bytes
"""
_CHANGE = "[I] [TRT] [MemUsageChange] TensorRT-managed allocation in"
LOADED = f"""
{_CHANGE} engine deserialization: CPU +0, GPU +15, now: CPU 0, GPU 15 (MiB)
{_CHANGE} IExecutionContext creation: CPU +0, GPU +299, now: CPU 0, GPU 314 (MiB)
"""
AVAILABLE = "MemAvailable:    5000000 kB\nMemAvailable:    4990000 kB\nMemAvailable:    4500000 kB\n"


def test_the_log_of_a_build_tells_weights_and_activations_apart():
    found = memory_of(BUILT, LOADED, AVAILABLE)
    assert found is not None
    assert (found.weights_mb, found.activations_mb) == (1.851804, 0.062976)
    assert found.mb == pytest.approx(1.91478)
    assert found.process_mb == pytest.approx(512.0)
    assert found.source == "build"


def test_older_versions_say_it_when_the_engine_is_loaded():
    """TensorRT 10 printed the same two lines without the word bytes at first; 8.x has neither."""
    assert memory_of(BUILT.replace(" bytes", ""), "", "") == memory_of(BUILT, "", "")
    found = memory_of("", LOADED, "MemAvailable: 1 kB\n")
    assert found is not None
    assert found.mb == pytest.approx(314 * 1.048576)
    assert found.source == "loading"
    assert found.process_mb is None


@pytest.mark.parametrize("loaded", ["", "in IExecutionContext creation: CPU +0, GPU +0, now: CPU 0, GPU 0 (MiB)"])
def test_logs_without_it_say_nothing(loaded: str):
    """An engine of less than half a MiB is no engine of no memory."""
    assert memory_of("", loaded, AVAILABLE) is None
