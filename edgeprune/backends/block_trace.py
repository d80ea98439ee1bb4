"""The latency of every block inside the whole model, from onnxruntime's profiler.

A block measured alone would include layout changes and cold caches that it does not have in the model. So the whole
model runs with the profiler. Nodes and values are named after their block, so that fused kernels can be assigned. The
profiler's overhead, a constant for each kernel, is subtracted: the kernels then add up to the unprofiled latency.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.backends.onnxruntime import OnnxRuntime

_TAG = re.compile(r"blk(\d+)_")

PACE_SECONDS = 0.1


@dataclass(frozen=True)
class Trace:
    """Microseconds per inference: of every block, and of the whole model without the profiler."""

    block_us: Mapping[int, float]
    total_us: float


class Tracer(Protocol):
    """Measures the blocks of models, on this machine or on another one."""

    def __call__(self, model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
        """Measure a model's blocks; see `trace`."""


def trace(
    model: ir.Model, block_of: Mapping[str, int], feeds: Mapping[str, NDArray[Any]], threads: int, seconds: float
) -> Trace:
    """Measure a model's blocks.

    Args:
        model: the model to run; a node without a block counts to the block that reads its result.
        block_of: node name -> block index.
        feeds: one input.
        threads: threads of onnxruntime.
        seconds: time to measure, half without and half with the profiler.
    """
    tagged = graph.to_bytes(tag_blocks(model, block_of))
    runtime = OnnxRuntime(threads)
    clock = clock_of(threads)
    total_us = float(np.median(timed_runs(runtime.load(tagged).bind(feeds), seconds / 2, clock))) * 1e6
    with tempfile.TemporaryDirectory() as folder:
        profiled = runtime.load(tagged, trace=Path(folder) / "trace")
        runs = 1 + len(timed_runs(profiled.bind(feeds), seconds / 2, clock))  # binding runs it once
        events = json.loads(profiled.end_trace().read_text())
    return Trace(times_per_block(events, runs, total_us), total_us)


def pace(run: Callable[[], object], threads: int) -> float:
    """Seconds of a short measurement now; compared with earlier ones it shows whether the machine became slower."""
    return float(np.median(timed_runs(run, PACE_SECONDS, clock_of(threads))))


def timed_runs(run: Callable[[], object], seconds: float, clock: Callable[[], float]) -> list[float]:
    """Seconds of each run, at least three."""
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < seconds and len(times) < 400):
        before = clock()
        run()
        times.append(clock() - before)
    return times


def clock_of(threads: int) -> Callable[[], float]:
    """The clock that times runs on so many threads, in seconds."""
    # On one thread, the thread's clock excludes the time that other processes had the processor.
    return time.thread_time if threads == 1 else time.perf_counter


def tag_blocks(model: ir.Model, block_of: Mapping[str, int]) -> ir.Model:
    """A copy of the model whose nodes and values have names that begin with their block's number."""
    copy = graph.clone(model)
    tags: dict[ir.Node, int] = {}
    for node in reversed(list(copy.graph)):
        tag = block_of.get(str(node.name))
        if tag is None:
            readers = [tags[c] for v in node.outputs for c in v.consumers() if c in tags]
            producers = [
                block_of.get(str(p.name)) for v in node.inputs if v is not None and (p := v.producer()) is not None
            ]
            tag = readers[0] if readers else next((p for p in producers if p is not None), 0)
        tags[node] = tag
    for i, (node, tag) in enumerate(tags.items()):
        node.name = f"blk{tag}_{i}"
        for k, v in enumerate(node.outputs):
            if v.name:
                v.name = f"blk{tag}_{i}_{k}"
    return copy


def times_per_block(events: Sequence[Mapping[str, Any]], runs: int, total_us: float) -> dict[int, float]:
    """Microseconds of every block, from onnxruntime's profile of a model whose blocks are tagged."""
    kernels: dict[str, list[float]] = defaultdict(list)
    for e in events:
        if e.get("cat") == "Node" and e["name"].endswith("_kernel_time"):
            kernels[e["name"]].append(float(e["dur"]))
    trimmed = {name: _interquartile_mean(d) * max(1, round(len(d) / runs)) for name, d in kernels.items()}
    overhead_us = max(0.0, (sum(trimmed.values()) - total_us) / max(1, len(trimmed)))
    per_block: dict[int, float] = defaultdict(float)
    last = 0
    for name, us in trimmed.items():
        match = _TAG.search(name)
        last = int(match[1]) if match else last
        per_block[last] += max(us - overhead_us, 0.05 * us)
    scale = total_us / max(sum(per_block.values()), 1e-9)
    return {block: us * scale for block, us in per_block.items()}


def _interquartile_mean(values: list[float]) -> float:
    ordered = np.sort(values)
    n = len(ordered)
    return float(ordered[n // 4 : n - n // 4].mean())
