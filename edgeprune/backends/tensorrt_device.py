"""TensorRT's Python module on this machine as a device, for a machine without ``trtexec``.

It measures no single kernels, so a profile of kernels needs ``trtexec``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import onnx_ir as ir

from edgeprune.backends.host import Host, LocalHost
from edgeprune.backends.results import DeviceResult
from edgeprune.backends.tensorrt import TensorRt
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

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        seconds: float = 3.0,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Build every model and measure them in turns.

        Args:
            models: name -> lowered model.
            seconds: time to measure each of them.
            shapes: input name -> shape, for inputs with an open size.
            progress: called with the current step and its seconds so far.

        Raises:
            BackendError: TensorRT does not accept a model, or fails to run it.
        """
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
