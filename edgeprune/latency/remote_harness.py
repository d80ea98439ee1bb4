"""The timing harness on another machine: candidates are timed there over SSH, and scored on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import Machine, OnnxRuntime, OnnxRuntimeDevice, Trace, open_device, tag_blocks, times_per_block
from edgeprune.dependency import OpenedModel
from edgeprune.errors import UsageError
from edgeprune.latency.timing_harness import TimingHarness, input_shapes
from edgeprune.timing import Measurement


@dataclass(frozen=True, eq=False)
class RemoteHarness(TimingHarness):
    """Times models on a CPU over SSH, on random inputs.

    Attributes:
        there: onnxruntime on that machine.
        machine: the machine's description of itself.
        opened: the opened model; its file is the original against which candidates are timed.
    """

    there: OnnxRuntimeDevice
    machine: Machine
    opened: OpenedModel

    @property
    def device(self) -> str:
        """The machine's description of itself."""
        return self.machine.device

    @property
    def runtime_version(self) -> str:
        """Name and version of its runtime."""
        return f"onnxruntime {self.machine.version}"

    @property
    def features(self) -> tuple[str, ...]:
        """Instruction set extensions of its processor."""
        return self.machine.features

    def trace(self, model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
        """Time the blocks of a model there."""
        shapes = self._shapes(model)
        found, runs, events = self.there.trace(tag_blocks(model, block_of), seconds, shapes)
        total_us = found.latency.median_ms * 1e3
        return Trace(times_per_block(events, runs, total_us), total_us)

    def pace(self) -> float:
        """Always the same: nothing else runs on a board, and measuring the pace each time would take longer."""
        return 1.0

    def _measure(self, models: Mapping[str, ir.Model], **settings: Any) -> dict[str, Measurement]:
        together = {"original": self.opened.original, **models}
        shapes = self._shapes(self.opened.original)
        seconds, undecided = float(settings["max_seconds"]), settings.get("undecided")
        found = self._latencies(together, seconds, shapes)
        if undecided is not None and undecided(found):
            found = self._latencies(together, 2 * seconds, shapes)
        return found

    def _latencies(
        self, models: Mapping[str, ir.Model], seconds: float, shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Measurement]:
        found = self.there.measure(models, seconds=seconds, shapes=shapes)
        return {name: result.latency for name, result in found.items()}

    def _shapes(self, model: ir.Model) -> dict[str, tuple[int, ...]]:
        """Fixed shapes of the model's inputs."""
        fixed = input_shapes(self.opened)
        return {str(v.name): fixed[str(v.name)] for v in model.graph.inputs if str(v.name) in fixed}


def open_remote_harness(
    opened: OpenedModel, feeds: Mapping[str, NDArray[Any]], address: str, threads: int
) -> RemoteHarness:
    """A timing harness for an opened model on another machine.

    Args:
        opened: the opened model.
        feeds: one input, for plausible ranges; random if it is empty.
        address: ``ssh://user@host[:port]``.
        threads: threads of onnxruntime there.

    Raises:
        UsageError: the address names no device.
        BackendError: the machine cannot be reached, or it has no onnxruntime.
    """
    there = open_device(address, "onnxruntime", threads=threads)
    if not isinstance(there, OnnxRuntimeDevice):
        raise UsageError(f"--device {address!r}: expected ssh://user@host or ssh://user@host:port")
    runtime = OnnxRuntime(threads)
    original = runtime.load(opened.timed)
    given = feeds or original.random_feeds(shapes=input_shapes(opened))
    return RemoteHarness(runtime, given, original.bind(given), there, there.describe(), opened)
