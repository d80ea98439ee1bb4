"""TensorRT's Python module: on this machine as a device without ``trtexec``; and on any device to run an engine.

It measures no single kernels, so a profile of kernels needs ``trtexec``.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends import engine_runner
from edgeprune.backends.results import DeviceResult, EngineRuns
from edgeprune.backends.tensorrt import TensorRt
from edgeprune.errors import BackendError, UsageError
from edgeprune.hosts import Host, LocalHost, Workspace, read_text
from edgeprune.timing import benchmark


class TensorRtDevice:
    """This machine's GPU.

    Args:
        backend: TensorRT; this machine's by default.

    Raises:
        BackendError: TensorRT, the CUDA runtime or a GPU is missing.
    """

    name = "tensorrt"

    def __init__(self, backend: TensorRt | None = None):
        self.host: Host = LocalHost()
        self._backend = backend or TensorRt()

    def facts(self) -> dict[str, str]:
        """The machine and its TensorRT."""
        return {"machine": "this machine's GPU", "TensorRT": self._backend.version}

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        seconds: float = 3.0,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        power_s: float = 0.0,
        builds: int = 1,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Build every model and measure them in turns.

        Args:
            models: name -> lowered model.
            seconds: time to measure each of them.
            shapes: input name -> shape, for inputs with an open size.
            power_s: ignored: no sensors are read here.
            builds: of each model; only 1 is possible here.
            progress: called with the current step and its seconds so far.

        Raises:
            UsageError: several builds were asked for.
            BackendError: TensorRT does not accept a model, or fails to run it.
        """
        if builds > 1:
            raise UsageError("--builds needs trtexec: TensorRT's Python module builds each engine once here")
        tell = progress or (lambda what, seconds: None)
        engines = {}
        for name, model in models.items():
            engines[name] = self._backend.build(model, shapes=shapes)
            tell(f"building {name}", engines[name].seconds)
        with ExitStack() as held:
            runs = {
                name: held.enter_context(self._backend.runner(engine.plan, shapes=shapes))
                for name, engine in engines.items()
            }
            found = benchmark(runs, min_seconds=0.0, max_seconds=seconds * len(runs))
        return {
            name: DeviceResult(
                latency=found[name],
                device="this machine's GPU",
                versions={"tensorrt": self._backend.version},
                clocks="not locked: TensorRT's Python module leaves them as they are",
                ran_on={"TensorRT": engine.layers},
                build_seconds=engine.seconds,
                engine=engine.plan,
            )
            for name, engine in engines.items()
        }

    def outputs(
        self,
        model: ir.Model,
        feeds: Sequence[Mapping[str, NDArray[Any]]],
        *,
        engine: bytes | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> EngineRuns:
        """What an engine computes here, in a process of its own; see `edgeprune.backends.trtexec_device.Trtexec`.

        Raises:
            BackendError: TensorRT does not accept the model, or fails to run the engine.
        """
        tell = progress or (lambda what, seconds: None)
        plan = self._backend.build(model, shapes=shapes).plan if engine is None else engine
        with self.host.workspace() as space:
            (Path(space.path) / "model.engine").write_bytes(plan)
            return by_python(space, self.host.name, sys.executable, model, feeds, 120 + 10.0 * len(feeds), tell)


def has_module(space: Workspace, python: str) -> bool:
    """Whether an interpreter there has TensorRT's module, and NumPy to use it."""
    return space.run([python, "-c", "import numpy, tensorrt"]).code == 0


def by_python(
    space: Workspace,
    host: str,
    python: str,
    model: ir.Model,
    feeds: Sequence[Mapping[str, NDArray[Any]]],
    allowed_s: float,
    tell: Callable[[str, float], None],
) -> EngineRuns:
    """What ``model.engine`` of a workspace computes, by the TensorRT module of an interpreter there.

    Raises:
        BackendError: it cannot run the engine.
    """
    inputs = [str(value.name) for value in model.graph.inputs if value.name not in model.graph.initializers]
    packed: dict[str, Any] = {}
    for number, feed in enumerate(feeds):
        packed |= {f"{number}.{place}": feed[name] for place, name in enumerate(inputs)}
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as local:
        with open(Path(local) / "feeds.npz", "wb") as file:
            np.savez(file, names=np.array(inputs), **packed)
        shutil.copy(engine_runner.__file__, Path(local) / "engine_runner.py")
        space.put_all(Path(local), "run")
        arguments = [python, "run/engine_runner.py", "model.engine", "run/feeds.npz", "outputs.npz"]
        code = space.job(f"{shlex.join(arguments)} >run.log 2>&1", allowed_s, lambda s: tell("running the engine", s))
        content = space.read("outputs.npz")
        if code or content is None:
            lines = read_text(space, "run.log").strip().splitlines() or ["it printed nothing"]
            raise BackendError(f"{host}: TensorRT's Python module could not run the engine: {lines[-1]}")
        (Path(local) / "outputs.npz").write_bytes(content)
        with np.load(Path(local) / "outputs.npz") as found:
            names = [str(name) for name in found["names"]]
            if missing := [v.name for v in model.graph.outputs if v.name not in names]:
                raise BackendError(f"{host}: the engine has no output {missing[0]!r}; it has {', '.join(names)}")
            places = [(names.index(str(v.name)), v.dtype or ir.DataType.FLOAT) for v in model.graph.outputs]
            outputs = [
                [found[f"{number}.{place}"].astype(dtype.numpy()) for place, dtype in places]
                for number in range(len(feeds))
            ]
    return EngineRuns(outputs, "TensorRT's Python module")
