"""onnxruntime on another machine: a Raspberry Pi or any Linux board that has Python, numpy and onnxruntime."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.backends import remote_runner
from edgeprune.backends.host import Host, Workspace
from edgeprune.backends.results import DeviceResult, measurement_of
from edgeprune.errors import BackendError
from edgeprune.support import kernel_features

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


def _about(space: Workspace) -> str:
    return "; ".join(line for line in space.run(["sh", "-c", _DESCRIBE]).output.splitlines() if line.strip())


class OnnxRuntimeDevice:
    """onnxruntime on a host.

    Args:
        host: the machine.
        threads: threads of one inference.
        provider: execution provider that shall run the model.
        python: the interpreter there.
    """

    name = "onnxruntime"

    def __init__(self, host: Host, *, threads: int = 1, provider: str = CPU, python: str = "python3"):
        self.host = host
        self.threads = threads
        self.provider = provider
        self._python = python

    def describe(self) -> Machine:
        """What the machine is, without timing anything.

        Raises:
            BackendError: it cannot be reached, or Python or onnxruntime is missing there.
        """
        with self.host.workspace() as space:
            done = space.run([self._python, "-c", "import onnxruntime; print(onnxruntime.__version__)"])
            if done.code:
                raise BackendError(f"{self.host.name}: {done.last_line()}")
            flags = space.run(["sh", "-c", _FLAGS]).output
            return Machine(_about(space), done.output.strip(), kernel_features(flags.split()))

    def trace(
        self, model: ir.Model, seconds: float, shapes: Mapping[str, tuple[int, ...]]
    ) -> tuple[DeviceResult, int, list[dict[str, Any]]]:
        """Time a model, half of the time with onnxruntime's profiler.

        Returns:
            The result, and how many runs the kernel times that follow, one dictionary each, are from.

        Raises:
            BackendError: see `measure`.
        """
        raw: dict[str, Any] = {}
        timed = self.measure({"model": model}, seconds=seconds / 2, shapes=shapes, trace_s=seconds / 2, raw=raw)
        found = timed["model"]
        runs, events = raw["kernels"]["model"]
        return found, int(runs), list(events)

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
        """Time the models in turns there.

        Args:
            models: name -> model; the first is usually what the others are compared with.
            seconds: how long, all models together; six blocks of each are always timed.
            shapes: input name -> shape, for inputs that leave a size open.
            seed: of the random inputs and of the order of turns.
            trace_s: how long every model is run with onnxruntime's profiler besides.
            raw: filled with all that came back.
            progress: called with what is being done and the seconds it has taken.

        Raises:
            BackendError: Python or onnxruntime is missing there, a model is not accepted, the wanted provider ran
                nothing, or the connection is lost for good.
        """
        tell = progress or (lambda what, seconds: None)
        with self.host.workspace() as space:
            files = {
                name: self._upload(space, f"m{index}", model) for index, (name, model) in enumerate(models.items())
            }
            job = {
                "models": files,
                "threads": self.threads,
                "provider": self.provider,
                "seconds": seconds,
                "block_s": 0.15,
                "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
                "seed": seed,
                "trace_s": trace_s,
            }
            space.put(Path(remote_runner.__file__), "runner.py")
            space.write(json.dumps(job), "job.json")
            command = shlex.join([self._python, "runner.py", "job.json", "result.json"])
            space.job(
                f"{command} >runner.log 2>&1", 300 + 60 * len(models) + 4 * seconds, lambda s: tell("measuring", s)
            )
            result = self._result(space)
            device = _about(space)
        if raw is not None:
            raw.update(result)
        return {name: self._device_result(name, result, device) for name in models}

    def _upload(self, space: Workspace, folder: str, model: ir.Model) -> str:
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as local:
            graphs.save(model, Path(local) / "model.onnx")
            space.run(["mkdir", folder])
            for file in sorted(Path(local).iterdir()):
                space.put(file, f"{folder}/{file.name}")
        return f"{folder}/model.onnx"

    def _result(self, space: Workspace) -> dict[str, Any]:
        text = space.read("result.json")
        if text is None:
            log = (space.read("runner.log") or b"").decode(errors="replace").strip().splitlines()
            raise BackendError(f"{self.host.name}: {log[-1] if log else self._python + ' did not run there'}")
        try:
            result: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise BackendError(f"{self.host.name}: the result that came back is no JSON: {error}") from error
        return result

    def _device_result(self, name: str, result: Mapping[str, Any], device: str) -> DeviceResult:
        ran_on = {str(provider): int(count) for provider, count in result["ran_on"][name].items()}
        if not ran_on.get(self.provider):
            others = ", ".join(f"{count} nodes on {provider}" for provider, count in ran_on.items()) or "nothing"
            raise BackendError(f"{self.host.name}: {self.provider} was asked for, but ran no node of {name}: {others}")
        return DeviceResult(
            latency=measurement_of(result["blocks_ms"][name]),
            device=device,
            versions=result["versions"],
            clocks="not locked: onnxruntime devices keep their governor",
            ran_on=ran_on,
        )
