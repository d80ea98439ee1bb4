"""The latency of every block inside the whole model, from the per-node counters of OpenVINO's execution graph.

A node of the execution graph lists the nodes of the model that it computes, and these are named after their blocks. A
kernel that computes nodes of several blocks (a convolution with the quantization that the next block asked for) counts
to the block of its first named node. Counters add up to more than the latency without them, so they are scaled.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.block_trace import Trace, clock_of, tag_blocks, timed_runs
from edgeprune.backends.openvino import OpenVino
from edgeprune.backends.results import LayerTime

_TAG = re.compile(r"blk(\d+)_")

_RESOLUTION_US = 1.0
"""Counters are cut to whole microseconds: half of one is added back to each kernel that took time."""


def trace_openvino(
    model: ir.Model, block_of: Mapping[str, int], feeds: Mapping[str, NDArray[Any]], threads: int, seconds: float
) -> Trace:
    """Measure a model's blocks in OpenVINO; see `edgeprune.backends.block_trace.trace`."""
    tagged, runtime, clock = tag_blocks(model, block_of), OpenVino(threads), clock_of(threads)
    total_us = float(np.median(timed_runs(runtime.load(tagged).bind(feeds), seconds / 2, clock))) * 1e6
    counted = runtime.load(tagged, trace=True)
    timed_runs(counted.bind(feeds), seconds / 2, clock)
    return Trace(block_times(counted.kernels(), total_us), total_us)


def block_times(kernels: Sequence[LayerTime], total_us: float) -> dict[int, float]:
    """Microseconds of every block of a model whose blocks are tagged; they add up to ``total_us``."""
    per_block: dict[int, float] = defaultdict(float)
    last = 0
    for kernel in kernels:
        tags = [match[1] for name in (*kernel.nodes, kernel.name) if (match := _TAG.search(name))]
        last = int(tags[0]) if tags else last
        if kernel.median_us > 0:
            per_block[last] += kernel.median_us + _RESOLUTION_US / 2
    scale = total_us / max(sum(per_block.values()), 1e-9)
    return {block: us * scale for block, us in per_block.items()}
