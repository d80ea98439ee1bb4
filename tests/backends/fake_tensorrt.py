"""A fake of the module tensorrt, not TensorRT: it records what is asked of it, and has what each version has.

From the Python API references of 8.6, 10.3 and 11. An attribute that a version lacks is missing here, too, so that
using it fails as it would there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any


def make(
    version: str,
    *,
    parses: bool = True,
    builds: bool = True,
    open_sizes: bool = False,
    types: Mapping[str, str] = MappingProxyType({"x": "FLOAT", "y": "FLOAT"}),
) -> ModuleType:
    """The module as of a version; ``module.log`` lists the calls that matter.

    ``nptype`` is missing: in 8.5 it fails with NumPy 1.24 and newer, which have no ``np.bool``.
    """
    major = int(version.split(".")[0])
    log: list[Any] = []
    shape = (-1, 3, 8, 8) if open_sizes else (1, 3, 8, 8)

    class ILogger:
        ERROR = 1

        def __init__(self) -> None: ...

    class Logger(ILogger):
        def __init__(self, severity: int) -> None: ...

    class Network:
        num_layers, num_inputs = 7, 1

        def get_input(self, index: int) -> Any:
            return SimpleNamespace(name="x", shape=shape)

    class Parser:
        num_errors = 1

        def __init__(self, network: Network, logger: Any): ...

        def parse_from_file(self, path: str) -> bool:
            return parses

        def get_error(self, index: int) -> Any:
            named = {} if major < 10 else {"node_name": lambda: "pool_3"}
            return SimpleNamespace(desc=lambda: "no importer registered", **named)

    class Config:
        profiling_verbosity: Any = None

        def set_flag(self, flag: str) -> None:
            log.append(flag)

        def create_timing_cache(self, data: bytes) -> bytes:
            return data

        def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
            log.append(("timing cache", cache, ignore_mismatch))
            return True

        def get_timing_cache(self) -> Any:
            return SimpleNamespace(serialize=lambda: b"timings")

        def add_optimization_profile(self, profile: Any) -> int:
            return 0

    class Profile:
        def set_shape(self, name: str, low: Any, best: Any, high: Any) -> None:
            log.append(("shape", name, low, best, high))

    class Builder:
        def __init__(self, logger: Any):
            self._logger = logger

        def create_network(self, flags: int) -> Network:
            log.append(("network", flags))
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            if not builds:
                self._logger.log(ILogger.ERROR, "Error Code 10: could not find any\nimplementation for node conv_1.")
            return b"engine" if builds else None

    class Context:
        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return shape if name == "x" else (1, 10)

        def set_input_shape(self, name: str, wanted: tuple[int, ...]) -> bool:
            log.append(("input", name, wanted))
            return True

        def set_tensor_address(self, name: str, address: int) -> None:
            log.append(("address", name, address))

        def execute_async_v3(self, stream: int) -> bool:
            log.append(("run", stream))
            return True

    class CudaEngine:
        num_io_tensors = 2

        def get_tensor_name(self, index: int) -> str:
            return ("y", "x")[index]

        def get_tensor_mode(self, name: str) -> str:
            return "INPUT" if name == "x" else "OUTPUT"

        def get_tensor_dtype(self, name: str) -> str:
            return f"DataType.{types[name]}"

        def create_execution_context(self) -> Context:
            return Context()

    class Runtime:
        def __init__(self, logger: Any): ...

        def deserialize_cuda_engine(self, plan: bytes) -> CudaEngine | None:
            return CudaEngine() if plan == b"engine" else None

    module = ModuleType("tensorrt")
    network_flags = {"EXPLICIT_BATCH": 0} if major < 10 else {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
    if major >= 11:
        del network_flags["EXPLICIT_BATCH"]
    builder_flags = {"SPARSE_WEIGHTS": "sparse"} | ({"FP16": "fp16", "INT8": "int8"} if major < 11 else {})
    vars(module).update(
        __version__=version,
        log=log,
        ILogger=ILogger,
        Logger=Logger,
        Builder=Builder,
        OnnxParser=Parser,
        Runtime=Runtime,
        NetworkDefinitionCreationFlag=SimpleNamespace(**network_flags),
        BuilderFlag=SimpleNamespace(**builder_flags),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
        TensorIOMode=SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT"),
    )
    return module
