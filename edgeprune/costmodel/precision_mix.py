"""The precision of each kernel in the fastest mix of INT8 and 16 bits, and the reformats between both."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from edgeprune.costmodel.cost import BYTES, latencies_us, runs_int8, traffic_us
from edgeprune.costmodel.kernel import Kernel
from edgeprune.devices import Device, Precision

_STEPS_PER_US = 100
"""Prices are whole numbers of steps for the minimum cut."""

Shapes = Mapping[str, tuple[int, ...]]


def successive_readers(kernels: Sequence[Kernel]) -> list[tuple[int, int, str]]:
    """Every two successive readers of a computed tensor, and its name: with two formats it has to be reformatted."""
    readers: dict[str, list[int]] = defaultdict(list)
    for i, kernel in enumerate(kernels):
        for value in kernel.reads:
            readers[value].append(i)
    computed = {value for k in kernels for value in k.writes}
    return [
        (a, b, value) for value, several in readers.items() if value in computed for a, b in itertools.pairwise(several)
    ]


def reformat_us(elements: float, device: Device) -> float:
    """Latency of the kernel that brings a tensor of so many elements from 16 bits to INT8 or back, microseconds."""
    return device.launch_us + float(traffic_us([np.asarray(elements * BYTES[p]) for p in ("int8", "fp16")], device))


def reformats_us(kernels: Sequence[Kernel], chosen: Sequence[Precision], device: Device, shapes: Shapes) -> float:
    """Latency of all reformats, microseconds."""
    return sum(
        reformat_us(math.prod(shapes[value]), device)
        for a, b, value in successive_readers(kernels)
        if (chosen[a] == "int8") != (chosen[b] == "int8")
    )


def fastest_mix(
    kernels: Sequence[Kernel], may_be_int8: Collection[str], device: Device, shapes: Shapes
) -> list[Precision]:
    """INT8 where the whole network is faster by it, reformats included: as a compile places it if no accuracy is lost.

    Args:
        kernels: of the network.
        may_be_int8: names of the nodes that TensorRT runs in INT8.
        device: that has INT8.
        shapes: of the tensors that kernels read.
    """
    floating = device.supported("fp16")
    possible = [i for i, k in enumerate(kernels) if runs_int8(k) and any(n in may_be_int8 for n in k.nodes)]
    chosen: list[Precision] = [floating] * len(kernels)
    if device.supported("int8") != "int8":
        return chosen
    float_us = latencies_us(kernels, chosen, device)
    int8_us = latencies_us(kernels, ["int8"] * len(kernels), device, mixed=False)
    edges = [
        (a, b, reformat_us(math.prod(shapes[value]), device)) for a, b, value in successive_readers(kernels) if a != b
    ]
    for i in _cheaper_side({i: (float(float_us[i]), float(int8_us[i])) for i in possible}, edges):
        chosen[i] = "int8"
    return chosen


def _cheaper_side(prices: Mapping[int, tuple[float, float]], edges: Sequence[tuple[int, int, float]]) -> list[int]:
    """The nodes on the second side of the cheapest division: a minimum cut (Ford & Fulkerson 1956).

    Args:
        prices: node -> its price on the first and on the second side; nodes that are not named are on the first side.
        edges: pairs of nodes, with the price of a pair that is divided.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    names = list(prices)
    position = {name: n for n, name in enumerate(names)}
    first, second = len(names), len(names) + 1
    capacity: dict[tuple[int, int], float] = defaultdict(float)
    for name, (on_first, on_second) in prices.items():
        capacity[second, position[name]] += on_first
        capacity[position[name], first] += on_second
    for a, b, price in edges:
        one, other = position.get(a, first), position.get(b, first)
        for start, end in ((one, other), (other, one)):
            if start != end:
                capacity[start, end] += price
    steps = np.round(np.array(list(capacity.values())) * _STEPS_PER_US).astype(np.int32)
    rows, columns = zip(*capacity, strict=True) if capacity else ((), ())
    graph = coo_array((steps, (rows, columns)), shape=(len(names) + 2, len(names) + 2)).tocsr()
    left = graph - maximum_flow(graph, second, first).flow
    left.eliminate_zeros()
    reached = breadth_first_order(left, second, return_predecessors=False)
    return [names[n] for n in reached.tolist() if n < len(names)]
