"""onnxruntime on another machine: a Raspberry Pi or any Linux board with Python, NumPy and onnxruntime."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgeprune.backends import remote_runner
from edgeprune.backends.results import DeviceResult, measurement_of
from edgeprune.backends.upload import upload
from edgeprune.errors import BackendError
from edgeprune.hosts import Host, Workspace, describe, read_text
from edgeprune.support import kernel_features
from edgeprune.timing import LEAST_TURN_S, MOST_TURN_S, RUNS_PER_TURN

CPU = "CPUExecutionProvider"

_DESCRIBE = """
tr -d '\\000' </proc/device-tree/model 2>/dev/null && echo
sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1
uname -m; cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null | sed 's/^/governor /'; true
"""


_FLAGS = "grep -m 1 -iE '^(flags|features)' /proc/cpuinfo; true"


@dataclass(frozen=True)
class Machine:
    """A machine in its own words, the version of its onnxruntime, and its processor's extensions for kernels."""

    device: str
    version: str
    features: tuple[str, ...]


class OnnxRuntimeDevice:
    """onnxruntime on a host.

    Args:
        host: the machine.
        threads: threads of one inference.
        provider: execution provider that must run the model.
        python: the interpreter there.
    """

    name = "onnxruntime"

    def __init__(self, host: Host, *, threads: int = 1, provider: str = CPU, python: str = "python3"):
        self.host = host
        self.threads = threads
        self.provider = provider
        self._python = python

    def facts(self) -> dict[str, str]:
        """What must be the same on two boards so that they can be compared.

        Raises:
            BackendError: see `describe`.
        """
        found = self.describe()
        return {"machine": found.device, "onnxruntime": found.version}

    def describe(self) -> Machine:
        """The machine and its software, without a measurement.

        Raises:
            BackendError: it cannot be reached, or Python or onnxruntime is missing there.
        """
        with self.host.workspace() as space:
            done = space.run([self._python, "-c", "import onnxruntime; print(onnxruntime.__version__)"])
            if done.code:
                raise BackendError(f"{self.host.name}: {done.last_line()}")
            flags = space.run(["sh", "-c", _FLAGS]).output
            return Machine(describe(space, _DESCRIBE), done.output.strip(), kernel_features(flags.split()))

    def trace(
        self, model: ir.Model, seconds: float, shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[DeviceResult, int, list[dict[str, Any]]]:
        """Measure a model, half of the time with onnxruntime's profiler.

        Returns:
            The result, the number of profiled runs, and the time of every kernel in them, one dictionary each.

        Raises:
            BackendError: see `measure`.
        """
        raw: dict[str, Any] = {}
        found = self.measure({"model": model}, seconds=seconds / 2, shapes=shapes, trace_s=seconds / 2, raw=raw)
        runs, events = raw["kernels"]["model"]
        return found["model"], int(runs), list(events)

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        seconds: float = 5.0,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        seed: int = 0,
        trace_s: float = 0.0,
        raw: dict[str, Any] | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Measure the models in turns there.

        Args:
            models: name -> model; the others are usually compared with the first.
            seconds: time to measure, all models together; at least six blocks of each.
            shapes: input name -> shape, for inputs with an open size.
            seed: seed of the random inputs and of the order of turns.
            trace_s: extra time for which every model runs with onnxruntime's profiler.
            raw: filled with the whole answer.
            progress: called with the current step and its seconds so far.

        Raises:
            BackendError: Python or onnxruntime is missing there, a model is not accepted, the wanted provider ran
                nothing, or the connection is lost.
        """
        tell = progress or (lambda what, seconds: None)
        with self.host.workspace() as space:
            folders = {name: f"m{index}" for index, name in enumerate(models)}
            for name, model in models.items():
                upload(space, folders[name], model)
            job = {
                "models": {name: f"{folder}/model.onnx" for name, folder in folders.items()},
                "threads": self.threads,
                "provider": self.provider,
                "seconds": seconds,
                "turn": {"runs": RUNS_PER_TURN, "least_s": LEAST_TURN_S, "most_s": MOST_TURN_S},
                "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
                "seed": seed,
                "trace_s": trace_s,
            }
            space.put(Path(remote_runner.__file__), "runner.py")
            space.write(json.dumps(job), "job.json")
            command = f"{shlex.join([self._python, 'runner.py', 'job.json', 'result.json'])} >runner.log 2>&1"
            space.job(command, 300 + 60 * len(models) + 4 * seconds, lambda s: tell("measuring", s))
            result = self._result(space)
            device = describe(space, _DESCRIBE)
        if raw is not None:
            raw.update(result)
        return {name: self._device_result(name, result, device) for name in models}

    def _result(self, space: Workspace) -> dict[str, Any]:
        text = space.read("result.json")
        if text is None:
            log = read_text(space, "runner.log").strip().splitlines()
            raise BackendError(f"{self.host.name}: {log[-1] if log else self._python + ' did not run there'}")
        try:
            result: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise BackendError(f"{self.host.name}: the result is not JSON: {error}") from error
        return result

    def _device_result(self, name: str, result: Mapping[str, Any], device: str) -> DeviceResult:
        ran_on = {str(provider): int(count) for provider, count in result["ran_on"][name].items()}
        if not ran_on.get(self.provider):
            others = ", ".join(f"{count} nodes on {provider}" for provider, count in ran_on.items()) or "nothing"
            raise BackendError(f"{self.host.name}: {self.provider} ran no node of {name}: {others}")
        return DeviceResult(
            latency=measurement_of(result["blocks_ms"][name]),
            device=device,
            versions=result["versions"],
            clocks="not locked: onnxruntime devices keep their governor",
            ran_on=ran_on,
        )
