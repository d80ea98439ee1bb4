"""The latency of every block inside the whole model, from the per-node counters of OpenVINO's execution graph.

A node of the execution graph lists the nodes of the model that it computes, and these are named after their blocks. A
kernel that computes nodes of several blocks (a convolution with the quantization that the next block asked for) counts
to the block of its first named node. Counters add up to more than the latency without them, so they are scaled.

A counter is the mean of all runs so far, in whole microseconds, of the wall clock. One run that lost the processor to
another process would spoil the kernel that it interrupted. So the counters are read after 1, 2, 4, 8, ... further runs,
and the time of a kernel is the lower quartile over these batches. Batches that do not grow would be too coarse later.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.block_trace import Trace, clock_of, tag_blocks, timed_runs
from edgeprune.backends.openvino import OpenVino
from edgeprune.backends.results import LayerTime

_TAG = re.compile(r"blk(\d+)_")

_RESOLUTION_US = 1.0
"""Counters are cut to whole microseconds: half of one is added back to each kernel that took time."""

_LEAST_BATCH = 8


class Counted(Protocol):
    """A runner whose kernels are counted."""

    def kernels(self) -> list[LayerTime]:
        """The kernels with the mean time of all runs so far."""


def trace_openvino(
    model: ir.Model, block_of: Mapping[str, int], feeds: Mapping[str, NDArray[Any]], threads: int, seconds: float
) -> Trace:
    """Measure a model's blocks in OpenVINO; see `edgeprune.backends.block_trace.trace`.

    The whole model is timed with its counters, too: they slow it by a percent or two, and compiling it once more
    without them takes longer than all its runs.
    """
    counted, clock = OpenVino(threads).load(tag_blocks(model, block_of), trace=True), clock_of(threads)
    run = counted.bind(feeds)
    kernels = kernel_times(counted, run, seconds / 2, clock)  # first: their resolution is coarser after more runs
    total_us = float(np.median(timed_runs(run, seconds / 2, clock))) * 1e6
    return Trace(block_times(kernels, total_us), total_us)


def kernel_times(
    runner: Counted, run: Callable[[], object], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[LayerTime]:
    """The kernels of a model that was bound, and so ran once, with the lower quartile of their times over batches.

    Args:
        runner: gives the mean times so far.
        run: runs the model once.
        seconds: time to measure, at least four batches.
        clock: on which the time passes.
    """
    done, batch, means = 1, 1, defaultdict[str, list[float]](list)
    total = {k.name: k.median_us for k in runner.kernels()}
    start = clock()
    while batch <= _LEAST_BATCH or clock() - start < seconds / 2:  # a batch takes as long as all before it
        for _ in range(batch):
            run()
        done, found = done + batch, runner.kernels()
        for k in found:
            whole = (k.median_us + _RESOLUTION_US / 2) * done if k.median_us > 0 else 0.0
            means[k.name].append(max(0.0, whole - total.get(k.name, 0.0)) / batch)
            total[k.name] = whole
        batch *= 2
    return [replace(k, median_us=float(np.quantile(means[k.name], 0.25, method="lower"))) for k in found]


def block_times(kernels: Sequence[LayerTime], total_us: float) -> dict[int, float]:
    """Microseconds of every block of a model whose blocks are tagged; they add up to ``total_us``."""
    per_block: dict[int, float] = defaultdict(float)
    last = 0
    for kernel in kernels:
        tags = [match[1] for name in (*kernel.nodes, kernel.name) if (match := _TAG.search(name))]
        last = int(tags[0]) if tags else last
        per_block[last] += kernel.median_us
    scale = total_us / max(sum(per_block.values()), 1e-9)
    return {block: us * scale for block, us in per_block.items()}
