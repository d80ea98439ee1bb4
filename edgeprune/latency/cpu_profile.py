"""Measured profiles: the latency of a network's blocks on the device at hand, kept in the cache and written as JSON."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.dependency import Shapes, open_model
from edgeprune.devices import load_profile
from edgeprune.errors import UsageError
from edgeprune.latency.block_latency import LatencyModel
from edgeprune.latency.block_network import Network, network
from edgeprune.latency.cpu_model import measure
from edgeprune.latency.features import FEATURES
from edgeprune.latency.remote_harness import open_remote_harness
from edgeprune.latency.timing_harness import TimingHarness, random_harness
from edgeprune.support import LatencyCache, Progress

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class MeasuredProfile:
    """A network's latency on this machine.

    Attributes:
        target: device name.
        model: file name of the network.
        device: the processor, in words.
        runtime: name and version.
        threads: of the runtime.
        date: when it was read from the cache or measured, ISO 8601.
        network: the network's blocks.
        latency: what was fitted to the measurements.
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
        """Blocks with their latency at dense widths, microseconds, and the coefficients for all other widths."""
        model, sizes = self.latency, self.network.sizes
        blocks = [
            {
                "leading_node": block.anchor,
                "nodes": list(block.nodes),
                "formats": {
                    fmt: {
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

    def save(self, file: Path) -> None:
        """Write the profile, whole or not at all.

        Raises:
            UsageError: the disk is full, or the place can't be written to.
        """
        from edgeprune.support import write_text

        write_text(file, json.dumps(self.to_json(), indent=1) + "\n")


def measured_latency(
    net: Network,
    harness: TimingHarness,
    *,
    quantizable: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> LatencyModel:
    """The latency model of a network on the stand's CPU; only what the cache does not hold is measured."""
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
                seed=seed,
                progress=step.fraction,
            )
    finally:
        cache.close()


def profile_model(
    model: Path,
    target: str = "cpu",
    *,
    threads: int = 1,
    shapes: Shapes | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> MeasuredProfile:
    """Measure the blocks of a model on a target, at aligned widths, in every format that the target has.

    ``device`` is where the target is, if not here: ``ssh://user@host[:port]``.

    Raises:
        UsageError: the target can't be measured from here, or an input has open dimensions.
        ModelError: the model is invalid.
    """
    progress = progress or Progress()
    if load_profile(target).name != "cpu":
        raise UsageError(f"target {target!r} can't be measured from this machine; 'cpu' can")
    opened = open_model(Path(model), shapes or {}, progress)
    net = network(opened.dense, opened.analysis, opened.fixed)
    harness = random_harness(opened, threads) if device is None else open_remote_harness(opened, {}, device, threads)
    latency = measured_latency(net, harness, progress=progress)
    today = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return MeasuredProfile(
        "cpu", Path(model).name, harness.device, harness.runtime_version, threads, today, net, latency
    )
