"""Times of kernels find the launches they belong to, whatever the runtime fused."""

from __future__ import annotations

import pytest

from edgeprune.backends.results import LayerTime
from edgeprune.latency.kernel_times import launch_times

LAUNCHES = [("conv1", "relu1"), ("conv2",), ("add",), ("fc",)]


def test_metadata_names_the_nodes() -> None:
    layers = [LayerTime("k1", 30.0, nodes=("conv1", "relu1")), LayerTime("k2", 10.0, nodes=("fc", "unheard_of"))]
    times, rest = launch_times(layers, LAUNCHES, [1.0] * 4, 40.0)
    assert times == pytest.approx([30.0, 0.0, 0.0, 10.0])
    assert rest == 0.0


def test_a_kernel_of_several_launches_is_split_as_they_were_expected() -> None:
    layers = [LayerTime("conv1 + relu1 + conv2", 30.0)]
    times, _ = launch_times(layers, LAUNCHES, [20.0, 10.0, 1.0, 1.0], 30.0)
    assert times == pytest.approx([20.0, 10.0, 0.0, 0.0])


def test_a_region_covers_what_lies_between_and_is_named_nowhere_else() -> None:
    layers = [LayerTime("{ForeignNode[conv1...fc]}", 30.0), LayerTime("conv2", 5.0)]
    times, _ = launch_times(layers, LAUNCHES, [1.0, 1.0, 1.0, 1.0], 35.0)
    assert times == pytest.approx([10.0, 5.0, 10.0, 10.0])


def test_what_names_no_node_belongs_to_the_inference() -> None:
    layers = [LayerTime("conv1", 30.0), LayerTime("Reformatting CopyNode for Input Tensor 0", 10.0)]
    times, rest = launch_times(layers, LAUNCHES, [1.0] * 4, 40.0)
    assert times[0] == pytest.approx(30.0)
    assert rest == pytest.approx(10.0)


def test_the_profilers_overhead_is_taken_off_every_kernel_alike() -> None:
    layers = [LayerTime("conv1", 12.0), LayerTime("conv2", 32.0)]
    times, rest = launch_times(layers, LAUNCHES, [1.0] * 4, 40.0)
    assert times[:2] == pytest.approx([10.0, 30.0])
    assert sum(times) + rest == pytest.approx(40.0)
