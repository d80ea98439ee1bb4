"""Latencies of engine layers are mapped to the right blocks, with any fusion of the runtime."""

from __future__ import annotations

import pytest

from edgeprune.backends.results import LayerTime
from edgeprune.latency.kernel_times import launch_times

BLOCKS = [("conv1", "relu1"), ("conv2",), ("add",), ("fc",)]


def test_metadata_names_the_nodes() -> None:
    layers = [LayerTime("k1", 30.0, nodes=("conv1", "relu1")), LayerTime("k2", 10.0, nodes=("fc", "unheard_of"))]
    times, rest = launch_times(layers, BLOCKS, [1.0] * 4, 40.0)
    assert times == pytest.approx([30.0, 0.0, 0.0, 10.0])
    assert rest == 0.0


def test_a_layer_of_several_blocks_is_split_by_their_expected_latency() -> None:
    layers = [LayerTime("conv1 + relu1 + conv2", 30.0)]
    times, _ = launch_times(layers, BLOCKS, [20.0, 10.0, 1.0, 1.0], 30.0)
    assert times == pytest.approx([20.0, 10.0, 0.0, 0.0])


def test_a_region_covers_all_nodes_between_that_no_other_layer_names() -> None:
    layers = [LayerTime("{ForeignNode[conv1...fc]}", 30.0), LayerTime("conv2", 5.0)]
    times, _ = launch_times(layers, BLOCKS, [1.0, 1.0, 1.0, 1.0], 35.0)
    assert times == pytest.approx([10.0, 5.0, 10.0, 10.0])


def test_a_layer_that_names_no_node_belongs_to_the_inference() -> None:
    layers = [LayerTime("conv1", 30.0), LayerTime("Reformatting CopyNode for Input Tensor 0", 10.0)]
    times, rest = launch_times(layers, BLOCKS, [1.0] * 4, 40.0)
    assert times[0] == pytest.approx(30.0)
    assert rest == pytest.approx(10.0)


def test_the_profilers_overhead_is_subtracted_from_every_layer() -> None:
    layers = [LayerTime("conv1", 12.0), LayerTime("conv2", 32.0)]
    times, rest = launch_times(layers, BLOCKS, [1.0] * 4, 40.0)
    assert times[:2] == pytest.approx([10.0, 30.0])
    assert sum(times) + rest == pytest.approx(40.0)
