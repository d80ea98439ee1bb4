from __future__ import annotations

import numpy as np
import pytest

from edgeprune.build.limits import latency_within, predicted_energy_mj
from edgeprune.costmodel.energy import energy_mj
from edgeprune.devices.energy_rates import EnergyRates
from edgeprune.devices.targets import load_profile
from edgeprune.search.goal import Goal
from tests.build.test_placement_trials import network


def test_energy_is_arithmetic_and_moved_bytes():
    """A convolution of 32 to 64 channels, 3x3 on 32x32, in INT8: by hand."""
    kernels = network()
    rates = EnergyRates({"fp16": 2.0, "int8": 1.0}, 100.0, 0.5)
    first = kernels.latency.kernel(0, kernels.latency.sizes)
    macs, moved = 32 * 64 * 9 * 1024, 32 * 1024 + 64 * 1024 + 32 * 64 * 9
    assert energy_mj([first], ["int8"], rates) == pytest.approx(1e-9 * (macs + 100 * moved))
    assert energy_mj([first], ["fp16"], rates) == pytest.approx(1e-9 * (2 * macs + 200 * moved))


def test_narrower_and_int8_take_less_energy():
    kernels, rates = network(), load_profile("orin").energy
    assert rates is not None
    sizes = kernels.latency.sizes
    dense = predicted_energy_mj(kernels.latency, sizes, ("fp16",) * 4, rates)
    assert predicted_energy_mj(kernels.latency, sizes, ("int8",) * 4, rates) < 0.6 * dense
    assert predicted_energy_mj(kernels.latency, sizes // 2, ("fp16",) * 4, rates) < 0.6 * dense
    assert load_profile("t4").energy is None


def test_the_two_published_measurements_are_met():
    """MLPerf Inference v3.1, Orin MaxQ, SingleStream: watts at the wall above the idle kit, times the latency."""
    from pathlib import Path

    from edgeprune.hwprofiles.published import read_kernels

    rates = load_profile("orin").energy
    assert rates is not None
    table = read_kernels(Path(__file__).parents[2] / "hwprofiles" / "data" / "kernels.json.gz")
    for name, watts, ms in (("tv_resnet50_224", 13.9 - 5.7, 1.4215), ("mlperf_retinanet_800", 23.7 - 5.7, 20.531)):
        kernels = [kernel for kernel, count in table[name] for _ in range(count)]
        found = energy_mj(kernels, ["int8"] * len(kernels), rates)
        assert found == pytest.approx(watts * ms, rel=0.1)


def test_the_longest_latency_that_fits():
    found = latency_within(1.0, 100.0, lambda us: us <= 20.0)
    assert found is not None
    assert 19.0 <= found <= 20.0
    assert latency_within(1.0, 100.0, lambda us: True) == 100.0
    assert latency_within(1.0, 100.0, lambda us: False) is None


def test_limits_say_which_is_beyond_and_what_was_reached():
    goal = Goal(max_energy_mj=5.0, p99_ms=2.0)
    assert goal.excess({"--max-energy-mj": 4.0, "--p99": 3.0, "--max-memory-mb": 99.0}) == {"--p99": 1.5}
    said = goal.out_of_reach({"--max-energy-mj": 7.25, "--p99": 1.0})
    assert said == "--max-energy-mj 5 can't be met: the least that was reached is 7.25 mJ; "
    assert not Goal().limits
    assert np.isclose(Goal(max_memory_mb=3.0).excess({"--max-memory-mb": 6.0})["--max-memory-mb"], 2.0)
