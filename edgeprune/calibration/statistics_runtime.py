"""What runs networks for statistics: onnxruntime on the processor, or PyTorch, on a CUDA GPU or on the processor.

Statistics are what rankings, prices and refits are computed from. Scores and latencies are always those of the runtime
of the result. PyTorch computes in float32 throughout: TensorFloat-32, its default for convolutions on a GPU, is off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends import OnnxRuntime
from edgeprune.errors import BackendError, ModelError, UsageError
from edgeprune.executor import require_torch

if TYPE_CHECKING:
    import onnx_ir as ir

STATISTICS_DEVICES = ("cpu", "torch", "cuda")
"""onnxruntime on the processor; PyTorch on the processor; PyTorch on a CUDA GPU."""


class LoadedNetwork(Protocol):
    """A network that is ready to run."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, in the model's order, for one feed by input name."""


class Fallbacks:
    """Networks that PyTorch could not run.

    Attributes:
        loaded, failed: how many networks there were, and how many of them onnxruntime ran.
        reason: why the first one failed.
    """

    def __init__(self) -> None:
        self.loaded, self.failed, self.reason = 0, 0, ""

    @property
    def sentence(self) -> str:
        """For the user; empty if there are none."""
        if not self.failed:
            return ""
        return f"onnxruntime computed {self.failed} of {self.loaded} networks of the statistics: {self.reason}"


class _Chosen:
    """The choice of this process: networks are loaded by threads, too, so it is no context variable."""

    device = "cpu"
    fallbacks = Fallbacks()


def check_statistics_device(device: str) -> None:
    """Check that a device can compute statistics.

    Raises:
        UsageError: there is no such device.
        BackendError: PyTorch is not installed, or finds no GPU.
    """
    if device not in STATISTICS_DEVICES:
        raise UsageError(f"--stats-device {device}: expected cpu, torch or cuda")
    if device == "cpu":
        return
    require_torch(f"--stats-device {device}")
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("--stats-device cuda: PyTorch finds no CUDA GPU here")


@contextlib.contextmanager
def statistics_on(device: str, note: Callable[[str], object]) -> Iterator[None]:
    """Let a device compute the statistics in this context.

    Args:
        device: one of `STATISTICS_DEVICES`.
        note: told at the end which networks it could not run.

    Raises:
        UsageError, BackendError: as `check_statistics_device`.
    """
    check_statistics_device(device)
    before = _Chosen.device, _Chosen.fallbacks
    _Chosen.device, _Chosen.fallbacks = device, Fallbacks()
    try:
        with _float32() if device == "cuda" else contextlib.nullcontext():
            yield
        if sentence := _Chosen.fallbacks.sentence:
            note(sentence)
    finally:
        _Chosen.device, _Chosen.fallbacks = before


@contextlib.contextmanager
def _float32() -> Iterator[None]:
    import torch

    parts = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [part.allow_tf32 for part in parts]
    try:
        for part in parts:
            part.allow_tf32 = False
        yield
    finally:
        for part, was in zip(parts, before, strict=True):
            part.allow_tf32 = was


class StatisticsRuntime:
    """Loads networks whose values become statistics.

    Args:
        threads, spinning, arena: as `OnnxRuntime`, which is the default.
    """

    def __init__(self, threads: int = 1, *, spinning: bool = True, arena: bool = True) -> None:
        self.threads, self._spinning, self._arena = threads, spinning, arena

    def load(self, model: ir.Model | bytes) -> LoadedNetwork:
        """Load a network for the device of `statistics_on`.

        Raises:
            ModelError: onnxruntime does not accept the model.
        """
        usual = OnnxRuntime(self.threads, spinning=self._spinning, arena=self._arena)
        if _Chosen.device == "cpu":
            return usual.load(model)
        return _TorchNetwork(model, usual, "cuda" if _Chosen.device == "cuda" else "cpu", _Chosen.fallbacks)


class _TorchNetwork:
    """A network in PyTorch; in onnxruntime where PyTorch cannot run it."""

    def __init__(self, model: ir.Model | bytes, usual: OnnxRuntime, device: str, fallbacks: Fallbacks) -> None:
        import onnx
        import onnx_ir as ir

        from edgeprune.executor import GraphModule

        self._model, self._usual, self._fallbacks = model, usual, fallbacks
        fallbacks.loaded += 1
        graph = ir.from_proto(onnx.ModelProto.FromString(model)) if isinstance(model, bytes) else model
        self._types = {str(v.name): v.dtype for v in graph.graph.outputs}
        self._module: Any = None
        self._other: LoadedNetwork | None = None
        try:
            self._module = GraphModule(graph, (), device)
        except ModelError as error:
            self._fall_back(error)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for one feed.

        Raises:
            BackendError: the memory of the GPU ran out.
        """
        import torch

        if self._other is None:
            try:
                found = self._module.run(feeds)
            except torch.OutOfMemoryError as error:
                reason = "the GPU's memory ran out while it computed statistics: leave out --stats-device cuda"
                raise BackendError(reason) from error
            except (ModelError, RuntimeError, ValueError, TypeError, LookupError) as error:
                self._fall_back(error)
            else:
                return [_typed(found[name], dtype) for name, dtype in self._types.items()]
        assert self._other is not None
        return self._other.run(feeds)

    def _fall_back(self, error: Exception) -> None:
        self._fallbacks.failed += 1
        self._fallbacks.reason = self._fallbacks.reason or str(error)
        self._other = self._usual.load(self._model)


def _typed(array: NDArray[Any], dtype: ir.DataType | None) -> NDArray[Any]:
    """In the type that the graph declares: PyTorch computes with larger signed types for some unsigned ones."""
    if dtype is None or array.dtype == dtype.numpy():
        return array
    return array.astype(dtype.numpy(), copy=False) if dtype.numpy().kind in "iub" else np.asarray(array)
