"""``edgeprune bench``: time model files against each other, on this machine or on a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeprune.backends import EngineDevice, EngineSample, OpenVino, open_device, open_runtime
from edgeprune.calibration import CalibrationSpec, outputs_of
from edgeprune.devices import load_profile
from edgeprune.engine_check import Subject, check_engine
from edgeprune.errors import BackendError, UsageError
from edgeprune.graph import load
from edgeprune.passes.verify import settle_sizes
from edgeprune.report import EngineCheck
from edgeprune.support import Progress
from edgeprune.timing import Measurement, Memory, Ratio, benchmark, ratio

TURNS = 3
OPENVINO_SUFFIX = ".xml"


@dataclass(frozen=True)
class BenchResult:
    """The measurements.

    Attributes:
        device: The processor or board, in words.
        runtime: Name and version of the runtime.
        threads: Threads of the runtime.
        measurements: Model file -> its latency.
        speedup: How many times as fast as the first model the second is; None if there is only one.
        engines: Model file -> what its engine computes on the device, if it was run on samples.
        samples: Model file -> its latency by every build on every board, if there are several.
        memory: Model file -> what its engine takes on the device, if TensorRT says it.
    """

    device: str
    runtime: str
    threads: int
    measurements: Mapping[str, Measurement]
    speedup: Ratio | None
    engines: Mapping[str, EngineCheck] = dataclasses.field(default_factory=dict)
    samples: Mapping[str, tuple[EngineSample, ...]] = dataclasses.field(default_factory=dict)
    memory: Mapping[str, Memory] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The output of ``--json``."""
        return dataclasses.asdict(self)


def bench_models(
    files: Sequence[Path],
    *,
    target: str = "cpu",
    runtime: str | None = None,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    max_seconds: float = 10.0,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure models in turns, on random inputs.

    Args:
        files: One model, or several to be compared with the first; OpenVINO also takes its own ``.xml``.
        target: Where to measure.
        runtime: What runs them: ``onnxruntime`` or ``openvino``; by default the first of the target.
        threads: Threads of the runtime.
        shapes: Input name -> shape, for inputs with dynamic dimensions; some models may not have all of these inputs.
            Sizes that it does not give are proposed.
        max_seconds: Time limit, even if the intervals are still wide.
        progress: Shows the progress.

    Raises:
        ModelError: A file is not a valid model, or the runtime does not accept it.
        UsageError: ``shapes`` does not fit the inputs, or no sizes can be proposed.
        TargetError: The target is not known.
        BackendError: No runtime here can measure on the target.
    """
    wanted = load_profile(target).runtime(runtime)
    if not wanted.on_cpu:
        raise BackendError(
            f"no runtime on this machine can measure on {target!r}: give its address with --device ssh://user@host, or "
            "measure on 'cpu'"
        )
    backend = open_runtime(wanted.name, threads)
    progress = progress or Progress()
    candidates: dict[str, Callable[[], object]] = {}
    own = wanted.name == OpenVino.name and any(file.suffix == OPENVINO_SUFFIX for file in files)
    if own:  # these have no open sizes that could be proposed
        sizes = [{name: tuple(shape) for name, shape in (shapes or {}).items()} for _ in files]
    else:
        models = [load(file) for file in files]  # its errors are one sentence, unlike those of the runtime
        sizes = _sizes(models, shapes or {}, progress)
    for file, own_shapes in zip(files, sizes, strict=True):
        runner = backend.load(file)
        candidates[_label(file, candidates)] = runner.bind(runner.random_feeds(shapes=own_shapes))
    with progress.step("measuring") as step:
        measured = benchmark(
            candidates, min_seconds=min(1.0, max_seconds), max_seconds=max_seconds, progress=step.fraction
        )
    first, *others = measured.values()
    return BenchResult(
        device=backend.device,
        runtime=f"{backend.name} {backend.version}",
        threads=threads,
        measurements=measured,
        speedup=ratio(first, others[0]) if others else None,
    )


def bench_on_device(
    files: Sequence[Path],
    device: str | Sequence[str],
    *,
    target: str,
    runtime: str | None = None,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    max_seconds: float = 10.0,
    cuda_graph: bool = False,
    calibration: CalibrationSpec | None = None,
    builds: int = 1,
    timing_cache: Path | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Build models on a device and measure them there in turns, on random inputs.

    Args:
        files: One model, or several to be compared with the first; no file twice.
        device: ``local``, or ``ssh://user@host[:port]``; several boards are measured at the same time.
        target: Name of the device: ``cpu`` uses onnxruntime, every other target ``trtexec``.
        runtime: One of the runtimes of the target that can be measured there; by default the first.
        threads: Threads of the runtime, on a CPU.
        shapes: Input name -> shape, for inputs with dynamic dimensions.
        max_seconds: Measuring time for all models together; ``trtexec`` needs at least three turns of a second.
        cuda_graph: Replay the kernels of an engine as one CUDA graph; predictions are without it.
        calibration: Samples on which the engines are run, too, and compared with what their graphs compute here.
        builds: Engines of each model, since builds differ.
        timing_cache: File of a timing cache by which all engines are built; it is made if there is none.
        progress: Shows the progress.

    Raises:
        ModelError: A file is not a valid model.
        UsageError: ``device`` is not the address of a device, a file is given twice, or the runtime replays no graphs.
        CalibrationError: The samples do not fit a model.
        BackendError: The device cannot be reached, has no runtime, or does not accept a model; or an engine computes
            something else than its graph.
    """
    wanted = load_profile(target).runtime(runtime)
    if not wanted.over_ssh:
        raise UsageError(f"{wanted.name} is measured in this process only: leave --device out")
    on_cpu = wanted.on_cpu
    if on_cpu and calibration is not None:
        raise UsageError("--calib is for the engines of targets with TensorRT, not for cpu")
    if on_cpu and builds > 1:
        raise UsageError("--builds is for the engines of targets with TensorRT, not for cpu")
    names = [str(file) for file in files]
    if len(set(names)) < len(names):
        raise UsageError(f"{names[0]!r} is given twice: on a device every model is built only once")
    board = open_device(device, wanted.name, threads=threads, cuda_graph=cuda_graph, timing_cache=timing_cache)
    models = {name: load(file) for name, file in zip(names, files, strict=True)}
    progress = progress or Progress()
    sizes = _sizes(list(models.values()), shapes or {}, progress)
    fixed = {name: shape for own in sizes for name, shape in own.items()}
    # trtexec gets the length of one of its three turns, onnxruntime the length of the whole measurement.
    seconds = max_seconds if on_cpu else max_seconds / (TURNS * len(files))
    with progress.step(f"building and measuring on {board.host.name}"):
        if isinstance(board, EngineDevice) and builds > 1:
            results = board.measure(models, seconds=seconds, shapes=fixed, builds=builds)
        else:
            results = board.measure(models, seconds=seconds, shapes=fixed)
    engines: dict[str, EngineCheck] = {}
    if calibration is not None:
        assert isinstance(board, EngineDevice)  # what `open_device` gives for TensorRT
        for name, model in models.items():
            data = calibration.open(model, fixed, progress)
            shapes_of = {str(v.name): fixed[str(v.name)] for v in model.graph.inputs if v.name in fixed}
            outputs = outputs_of(model, data)
            subject = Subject(board, model, results[name].engine, data, outputs, shapes_of, progress, threads)
            engines[name] = check_engine(subject)
            if faults := engines[name].faults:
                raise BackendError(f"{name}: {faults[0]}")
    first, *others = (results[name] for name in names)
    return BenchResult(
        device=first.device,
        runtime=", ".join(f"{name} {number}" for name, number in first.versions.items()) or board.name,
        threads=threads,
        measurements={name: results[name].latency for name in names},
        speedup=ratio(first.latency, others[0].latency) if others else None,
        engines=engines,
        samples={name: results[name].samples for name in names if results[name].samples},
        memory={name: found for name in names if (found := results[name].memory) is not None},
    )


def _sizes(
    models: Sequence[ir.Model], shapes: Mapping[str, Sequence[int]], progress: Progress
) -> list[dict[str, tuple[int, ...]]]:
    """Shapes of the inputs of each model; the first one's count for all, and a note says which were proposed."""
    found: list[dict[str, tuple[int, ...]]] = []
    for model in models:
        names = {value.name for value in model.graph.inputs}
        known = {**(found[0] if found else {}), **shapes}
        sizes = settle_sizes(model, {n: s for n, s in known.items() if len(models) == 1 or n in names})
        for sentence in () if found else sizes.sentences():
            progress.note(sentence)
        found.append(sizes.shapes)
    return found


def _label(file: Path, taken: Mapping[str, object]) -> str:
    """The file as the user wrote it, with a number if the model is measured against itself."""
    return str(file) if str(file) not in taken else f"{file} ({len(taken) + 1})"
