"""Model files against each other on a device of their own: what ``edgeprune bench --device`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeprune.backends import open_device
from edgeprune.compiler.bench_models import BenchResult
from edgeprune.devices import load_profile
from edgeprune.errors import UsageError
from edgeprune.graph import load
from edgeprune.support import Progress
from edgeprune.timing import ratio

TURNS = 3


def bench_on_device(
    files: Sequence[Path],
    device: str,
    *,
    target: str,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    max_seconds: float = 10.0,
    progress: Progress | None = None,
) -> BenchResult:
    """Build models on a device and measure them there in turns, on random inputs.

    Args:
        files: One model, or several to be compared with the first; no file twice.
        device: ``local``, or ``ssh://user@host[:port]``.
        target: What the device is: ``cpu`` runs onnxruntime, everything else ``trtexec``.
        threads: Threads of the runtime, on a CPU.
        shapes: Input name -> shape, for inputs that leave sizes open.
        max_seconds: Time to measure for, all models together; ``trtexec`` takes three turns of a second at the least.
        progress: Told how far it is.

    Raises:
        ModelError: A file is no valid model.
        UsageError: ``device`` names no device, or a file is given twice.
        BackendError: The device cannot be reached, has no runtime, or does not take a model.
    """
    on_cpu = load_profile(target).name == "cpu"
    names = [str(file) for file in files]
    if len(set(names)) < len(names):
        raise UsageError(f"{names[0]!r} is given twice: on a device every model is built once")
    board = open_device(device, "onnxruntime" if on_cpu else "tensorrt", threads=threads)
    models = {name: load(file) for name, file in zip(names, files, strict=True)}
    progress = progress or Progress()
    fixed = {name: tuple(int(d) for d in shape) for name, shape in (shapes or {}).items()}
    # trtexec is told how long one of its three turns takes, onnxruntime how long all of it does.
    seconds = max_seconds if on_cpu else max_seconds / (TURNS * len(files))
    with progress.step(f"building and measuring on {device}"):
        results = board.measure(models, seconds=seconds, shapes=fixed)
    first, *others = (results[name] for name in names)
    return BenchResult(
        device=first.device,
        runtime=", ".join(f"{name} {number}" for name, number in first.versions.items()) or board.name,
        threads=threads,
        measurements={name: results[name].latency for name in names},
        speedup=ratio(first.latency, others[0].latency) if others else None,
    )
