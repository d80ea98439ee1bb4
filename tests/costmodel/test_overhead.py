"""Networks that the overhead of their kernels bounds: what is said about them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprune.costmodel.kernel import Kernel
from edgeprune.costmodel.overhead import BOUND, overhead, what_helps
from edgeprune.devices.targets import load_profile
from tests.costmodel.test_cost import conv

ORIN = load_profile("orin")


def small(count: int = 60) -> list[Kernel]:
    return [conv(rows=100, cin=16, cout=16) for _ in range(count)]


def test_the_overhead_is_that_of_the_kernels_and_of_the_call() -> None:
    device = ORIN.device()
    found = overhead([replace(k, repeats=2) for k in small(5)], 200.0, device)
    assert found.kernels == 10
    assert found.share == pytest.approx((10 * device.launch_us + device.call_us) / 200.0)


def test_a_network_of_small_kernels_is_told_that_pruning_cannot_help_and_what_does() -> None:
    (said,) = what_helps(small(), ["fp16"] * 60, ORIN)
    assert "is the overhead of 60 kernels" in said
    assert "pruning cannot shorten" in said
    for help_text in ("a batch of 8", "--cuda-graph", "a larger network can be pruned to the same time"):
        assert help_text in said


def test_a_network_of_large_kernels_is_told_nothing() -> None:
    large = [conv(rows=20_000, cin=512, cout=512)] * 10
    assert what_helps(large, ["fp16"] * 10, ORIN) == []


def test_a_smaller_power_mode_is_named_only_if_it_is_as_fast() -> None:
    """All parts of the launch overhead that follow the clock make a smaller mode slower."""
    (said,) = what_helps(small(), ["fp16"] * 60, ORIN)
    assert "power mode" not in said
    document = dict(ORIN.document)
    document["cost_model"] = {**document["cost_model"], "launch_cycles": 0.0, "launch_fixed_us": 9.0}
    (fixed,) = what_helps(small(), ["fp16"] * 60, replace(ORIN, document=document))
    assert "power mode" in fixed
    assert "nearly the same" in fixed


def test_only_a_large_share_bounds_a_network() -> None:
    device = ORIN.device()
    busy = overhead(small(), 60 * device.launch_us / BOUND * 1.5, device)
    assert not busy.bounds
    assert overhead(small(), 61 * device.launch_us, device).bounds


def test_the_latency_that_is_named_is_the_predicted_one() -> None:
    """It may have more than the kernels: reformats between precisions."""
    alone, more = (what_helps(small(), ["fp16"] * 60, ORIN, whole_us=us)[0] for us in (None, 700.0))
    assert "of the predicted 0.7 ms" in more
    assert "of the predicted 0.7 ms" not in alone
