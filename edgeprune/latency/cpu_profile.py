"""Measured profiles of a CPU: the latency of a network's blocks, kept in the cache and written as JSON."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.backends import OpenVino
from edgeprune.dependency import Shapes, open_model
from edgeprune.devices import load_profile
from edgeprune.errors import UsageError
from edgeprune.latency.block_latency import LatencyModel
from edgeprune.latency.block_network import Network, network
from edgeprune.latency.cpu_model import measure
from edgeprune.latency.features import FEATURES
from edgeprune.latency.lowering import onnxruntime_lowering, openvino_lowering
from edgeprune.latency.remote_harness import open_remote_harness
from edgeprune.latency.timing_harness import TimingHarness, open_harness
from edgeprune.passes.prune import try_cut
from edgeprune.support import LatencyCache, Progress

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class MeasuredProfile:
    """Latencies of a network on a CPU.

    Attributes:
        target: name of the target.
        model: file name of the network.
        device: description of the processor.
        runtime: name and version of the runtime.
        threads: threads of the runtime.
        date: when the latencies were measured or read from the cache, ISO 8601.
        network: the network's blocks.
        latency: the model that was fitted to the measurements.
    """

    target: str
    model: str
    device: str
    runtime: str
    threads: int
    date: str
    network: Network
    latency: LatencyModel

    def to_json(self) -> dict[str, Any]:
        """The profile's JSON: blocks with their latency at dense widths, and the coefficients for all other widths."""
        model, sizes = self.latency, self.network.sizes
        blocks = [
            {
                "leading_node": block.anchor,
                "nodes": list(block.nodes),
                "formats": {
                    self.network.lowering.name_of(fmt): {
                        "latency_us": model.block_us(b, fmt, sizes),
                        "coefficients_us": dict(zip(FEATURES, model.theta[fmt][b].tolist(), strict=True)),
                    }
                    for fmt in model.formats(b)
                },
            }
            for b, block in enumerate(self.network.blocks)
        ]
        return {
            "schema": SCHEMA,
            "target": self.target,
            "source": "measured",
            "model": self.model,
            "device": self.device,
            "runtime": self.runtime,
            "threads": self.threads,
            "date": self.date,
            "error": model.error,
            "switch_us": {"constant": model.switch_us[0], "per_element": model.switch_us[1]},
            "blocks": blocks,
        }


def measured_latency(
    net: Network,
    harness: TimingHarness,
    *,
    quantizable: bool = True,
    cuttable: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> LatencyModel:
    """The latency model of a network on the harness's CPU; networks in the cache are not measured again."""
    progress = progress or Progress()
    cache = LatencyCache(f"{harness.device}|{harness.runtime_version}|{harness.threads} threads")
    try:
        with progress.step("profiling blocks") as step:
            return measure(
                net,
                harness.feeds,
                cache,
                tracer=harness.trace,
                pace=harness.pace,
                lanes=harness.lanes,
                quantizable=quantizable,
                cuttable=cuttable,
                seed=seed,
                progress=step.fraction,
            )
    finally:
        cache.close()


def profile_model(
    model: Path,
    target: str = "cpu",
    *,
    runtime: str | None = None,
    threads: int = 1,
    shapes: Shapes | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> MeasuredProfile:
    """Measure the blocks of a model on a CPU, at aligned widths, in every format that the target has.

    ``runtime`` is ``onnxruntime`` or ``openvino``; by default the first of the target. ``device`` is the address of the
    CPU, ``ssh://user@host[:port]``; None means this machine.

    Raises:
        UsageError: the target is no CPU, its runtime is not measured at the device, or an input has open dimensions.
        BackendError: the runtime is not installed.
        ModelError: the model is invalid.
    """
    progress = progress or Progress()
    wanted = load_profile(target).runtime(runtime)
    if not wanted.on_cpu:
        raise UsageError(f"target {target!r} cannot be measured from this machine; only 'cpu' can")
    if device is not None and not wanted.over_ssh:
        raise UsageError(f"{wanted.name} is measured in this process only: leave --device out")
    opened = open_model(Path(model), shapes or {}, progress, trial=try_cut)
    if device is None:
        harness = open_harness(opened, None, {}, threads, wanted.name)
    else:
        harness = open_remote_harness(opened, {}, device, threads)
    if wanted.name == OpenVino.name:
        lowering = openvino_lowering(OpenVino(threads).float_precisions[-1])
    else:
        lowering = onnxruntime_lowering(harness.features)
    net = network(opened.dense, opened.analysis, opened.fixed, lowering)
    latency = measured_latency(net, harness, progress=progress)
    today = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return MeasuredProfile(
        "cpu", Path(model).name, harness.device, harness.runtime_version, threads, today, net, latency
    )
