"""Build an engine with TensorRT's Python API; all differences between its versions are in this file.

    8.5, 8.6   networks are weakly typed: precisions are builder flags, and explicit batch is a network flag
    10.x       strongly typed is a network flag
    11, RTX    networks are always strongly typed; there are no precision flags

TensorRT for RTX has the same interface, and can build for the compute capability of a GPU that is not attached.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeprune.errors import BackendError


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        sparse: Whether 2:4 kernels may be used.
        fp16: Whether the graph has float16 tensors.
        int8: Whether it has Q/DQ pairs.
        capability: Compute capability to build for, such as ``SM86``; None for the attached GPU.
        shapes: Input name -> shape, for inputs with an open size.
    """

    sparse: bool = False
    fp16: bool = False
    int8: bool = False
    capability: str | None = None
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """A built engine; ``layers`` is the number of layers of the parsed network."""

    plan: bytes
    layers: int
    seconds: float
    version: str
    timing_cache: bytes = b""


def build_engine(trt: Any, file: Path, options: BuildOptions, timing_cache: bytes = b"") -> Engine:
    """Parse an ONNX file and build it.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        file: the model, with its external data beside it.
        options: see there.
        timing_cache: the timing cache of earlier builds with this version on this device.

    Raises:
        BackendError: TensorRT cannot parse or build the model; the text has its message.
    """
    logger = _collecting_logger(trt)
    major = int(str(trt.__version__).split(".")[0])
    rtx = hasattr(trt, "ComputeCapability")
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, strongly=rtx or major >= 10))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(file)):
        reasons = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)] or logger.errors
        raise BackendError(f"TensorRT cannot parse the model: {_sentence(reasons)}")
    config = builder.create_builder_config()
    if options.sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if not rtx and major < 10:
        if options.fp16:
            config.set_flag(trt.BuilderFlag.FP16)
        if options.int8:
            config.set_flag(trt.BuilderFlag.INT8)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.capability is not None:
        _set_capability(trt, config, options.capability)
    else:
        config.set_timing_cache(config.create_timing_cache(timing_cache), ignore_mismatch=False)
    _fix_sizes(builder, network, config, options.shapes)
    started = time.perf_counter()
    plan = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - started
    if plan is None:
        raise BackendError(f"TensorRT cannot build the model: {_sentence(logger.errors)}")
    cache = b"" if options.capability is not None else bytes(memoryview(config.get_timing_cache().serialize()))
    return Engine(bytes(memoryview(plan)), int(network.num_layers), seconds, str(trt.__version__), cache)


def _parser_error(error: Any) -> str:
    """The error, with its node if this version reports it."""
    name = str(error.node_name()) if hasattr(error, "node_name") else ""
    return f"node {name!r}: {error.desc()}" if name else str(error.desc())


def _network_flags(trt: Any, *, strongly: bool) -> int:
    wanted = "STRONGLY_TYPED" if strongly else "EXPLICIT_BATCH"
    flag = getattr(trt.NetworkDefinitionCreationFlag, wanted, None)
    return 0 if flag is None else 1 << int(flag)


def _set_capability(trt: Any, config: Any, capability: str) -> None:
    known = getattr(trt, "ComputeCapability", None)
    if known is None:
        raise BackendError("TensorRT builds only for the attached GPU; TensorRT for RTX can build for another")
    if not hasattr(known, capability):
        names = ", ".join(name for name in dir(known) if name.startswith("SM"))
        raise BackendError(f"TensorRT for RTX builds for {names}, not for {capability}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(known, capability), 0)


def _fix_sizes(builder: Any, network: Any, config: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Add one optimization profile with one shape for each input: given, or a batch of 1 if only the batch is open."""
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    if not any(-1 in tuple(value.shape) for value in inputs):
        return
    profile = builder.create_optimization_profile()
    for value in inputs:
        stated = tuple(value.shape)
        shape = tuple(shapes.get(value.name, (1 if a == 0 and d == -1 else d for a, d in enumerate(stated))))
        if -1 in shape:
            shown = "x".join(str(d) if d > 0 else "?" for d in shape)
            raise BackendError(f"input {value.name!r} ({shown}) has an open size: give --shape {value.name}=SIZES")
        if -1 in stated:
            profile.set_shape(value.name, shape, shape, shape)
    config.add_optimization_profile(profile)


def _collecting_logger(trt: Any) -> Any:
    """A logger that collects errors instead of printing them."""

    class Collecting(trt.ILogger):  # type: ignore[misc]  # a class of a module that is only known at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(message)

    return Collecting()


def _sentence(reasons: Sequence[str]) -> str:
    return " ".join(reasons[-1].split())[:400].rstrip(".") if reasons else "it gives no reason"
