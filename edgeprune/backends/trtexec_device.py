"""Build and measure with ``trtexec`` on this machine or over SSH: a fully quoted script does the work there."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeprune.backends.host import Host, LocalHost, Workspace, describe, read_text, upload
from edgeprune.backends.results import DeviceResult, EngineRuns, measurement_of
from edgeprune.backends.sensors import DESCRIBE, LOCK_CLOCKS, POWER, STATE, busy_lines, conditions, idle_lines
from edgeprune.backends.tensorrt_device import by_python, has_module
from edgeprune.backends.trtexec import (
    Version,
    bench_arguments,
    build_arguments,
    error_in,
    parse_version,
    period_ms,
    profile_arguments,
    read_layers,
    read_times,
    typing_of,
)
from edgeprune.backends.trtexec_outputs import Feeds, input_files, output_arguments, output_files, spec_name
from edgeprune.errors import BackendError
from edgeprune.timing import Energy, energy_of

_SECONDS_A_START = 60.0
"""Allowed for one start of trtexec; it takes two or three on a Jetson."""

_FIND = """
for t in trtexec /usr/src/tensorrt/bin/trtexec /opt/tensorrt/bin/trtexec /usr/local/tensorrt/bin/trtexec
do command -v "$t" && exit 0; done; exit 1
"""


def is_installed() -> bool:
    """Whether this machine has ``trtexec`` in one of the usual folders."""
    with LocalHost().workspace() as space:
        return space.run(["sh", "-c", _FIND]).code == 0


class Trtexec:
    """TensorRT's ``trtexec`` on a host.

    Args:
        host: the machine; this one by default.
        command: path of ``trtexec``, if not in one of the usual folders.
        timeout_s: longest time for one build.
        cuda_graph: whether measurements replay the kernels as one CUDA graph.
    """

    name = "trtexec"

    def __init__(
        self,
        host: Host | None = None,
        *,
        command: str | None = None,
        timeout_s: float = 3600.0,
        cuda_graph: bool = False,
    ):
        self.host = host or LocalHost()
        self._command = command
        self._timeout_s = timeout_s
        self._cuda_graph = cuda_graph

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        rounds: int = 3,
        seconds: float = 3.0,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        power_s: float = 0.0,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Build every model and measure them in turns.

        Args:
            models: name -> lowered model.
            rounds: number of measurements of each engine; the engines take turns.
            seconds: time of each measurement.
            shapes: input name -> shape, for inputs with an open size.
            power_s: length of a further loop of each engine for its energy, if the device has power sensors.
            progress: called with the current step and its seconds so far.

        Raises:
            BackendError: trtexec is missing, does not accept a model, or writes a file that cannot be read; or the
                connection is lost.
        """
        tell = progress or (lambda what, seconds: None)
        with self.host.workspace() as space:
            command = self._find(space)
            banner = space.run([command, "--help"])
            version = parse_version(banner.output + banner.errors)
            device = describe(space, DESCRIBE)
            names = {name: f"m{index}" for index, name in enumerate(models)}
            stated = _shapes_option(shapes)
            for name, model in models.items():
                self._build(space, command, version, names[name], name, model, stated, tell)
            space.write(POWER, "power.sh")
            before = space.run(["sh", "-c", STATE]).output
            bench = self._bench_script(command, version, list(names.values()), rounds, seconds, stated, power_s)
            allowed_s = 120 + len(models) * (rounds * (seconds + 30) + 60 + power_s + 30)
            if space.job(bench, allowed_s, lambda s: tell("measuring", s)):
                log = read_text(space, "bench.log")
                raise BackendError(f"{self.host.name}: trtexec could not measure an engine: {error_in(log)}")
            clocks = read_text(space, "clocks").strip()
            state = conditions(before, read_text(space, "state"))
            return {
                name: self._collect(space, folder, rounds, device, version, clocks, state, power_s)
                for name, folder in names.items()
            }

    def outputs(
        self,
        model: ir.Model,
        feeds: Sequence[Feeds],
        *,
        engine: bytes | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        progress: Callable[[str, float], None] | None = None,
    ) -> EngineRuns:
        """What an engine computes there: by TensorRT's Python module if the device has it, else by trtexec.

        Args:
            model: the lowered model, for the names and types of its inputs and outputs.
            feeds: by input name, with the sizes that the engine was built for.
            engine: of the model; None to build it first.
            shapes: input name -> shape, for inputs with an open size.
            progress: called with the current step and its seconds so far.

        Raises:
            BackendError: the engine cannot be built or run there, or the connection is lost.
        """
        tell = progress or (lambda what, seconds: None)
        with self.host.workspace() as space:
            command = self._find(space)
            banner = space.run([command, "--help"])
            version = parse_version(banner.output + banner.errors)
            if engine is None:
                self._build(space, command, version, ".", "the model", model, _shapes_option(shapes), tell)
            else:
                with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
                    (Path(folder) / "model.engine").write_bytes(engine)
                    space.put(Path(folder) / "model.engine", "model.engine")
            allowed_s = 120 + _SECONDS_A_START * len(feeds)
            if has_module(space, "python3"):
                return by_python(space, self.host.name, "python3", model, feeds, allowed_s, tell)
            return self._by_trtexec(space, command, version, model, feeds, shapes, allowed_s, tell)

    def _by_trtexec(
        self,
        space: Workspace,
        command: str,
        version: Version,
        model: ir.Model,
        feeds: Sequence[Feeds],
        shapes: Mapping[str, tuple[int, ...]] | None,
        allowed_s: float,
        tell: Callable[[str, float], None],
    ) -> EngineRuns:
        inputs = [str(value.name) for value in model.graph.inputs if value.name not in model.graph.initializers]
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            (Path(folder) / "feeds.tar").write_bytes(input_files(feeds, inputs, version))
            space.put(Path(folder) / "feeds.tar", "feeds.tar")
        extra = [f"--shapes={_shapes_option(shapes)}"] if shapes else []
        run = shlex.join([command, *output_arguments(version, inputs), *extra])
        lines = ["tar -xf feeds.tar || exit 1", "rm feeds.tar"]
        for number in range(len(feeds)):
            lines += [
                f"mkdir -p f{number}",
                f"( cd f{number} && {run} ) >run.log 2>&1 || exit 1",
                f"rm -f f{number}/*.bin",
            ]
        lines += [f"tar -cf outputs.tar {' '.join(f'f{n}/outputs.json' for n in range(len(feeds)))}"]
        if space.job("\n".join(lines), allowed_s, lambda s: tell("running the engine", s)):
            raise BackendError(
                f"{self.host.name}: trtexec could not run the engine: {error_in(read_text(space, 'run.log'))}"
            )
        return EngineRuns(output_files(space.read("outputs.tar") or b"", model.graph.outputs, len(feeds)), "trtexec")

    def _build(
        self,
        space: Workspace,
        command: str,
        version: Version,
        folder: str,
        name: str,
        model: ir.Model,
        shapes: str,
        tell: Callable[[str, float], None],
    ) -> None:
        upload(space, folder, model)
        script = self._build_script(command, version, folder, model, shapes)
        if space.job(script, self._timeout_s, lambda s: tell(f"building {name}", s)):
            log = read_text(space, f"{folder}/build.log")
            raise BackendError(f"{self.host.name}: trtexec could not build {name}: {error_in(log)}")

    def _find(self, space: Workspace) -> str:
        found = space.run(["sh", "-c", f"command -v {shlex.quote(self._command)}" if self._command else _FIND])
        path = found.output.strip().splitlines()
        if found.code or not path:
            missing = self._command or "trtexec"
            raise BackendError(f"{self.host.name} has no {missing}; it is part of TensorRT and JetPack")
        return path[0]

    def _build_script(self, command: str, version: Version, folder: str, model: ir.Model, shapes: str) -> str:
        arguments = build_arguments(version, typing_of(model))
        if shapes:
            arguments += [f"--{which}Shapes={shapes}" for which in ("min", "opt", "max")]
        # A timing cache is valid for one version on one device; it is in the user's cache folder.
        return "\n".join(
            [
                f"cd {shlex.quote(folder)} || exit 1",
                'cache="${XDG_CACHE_HOME:-$HOME/.cache}/edgeprune"; mkdir -p "$cache"',
                "start=$(date +%s)",
                f'cache="$cache/trtexec-{version}.cache"',
                f'{shlex.join([command, *arguments])} --timingCacheFile="$cache" >build.log 2>&1',
                "code=$?",
                'echo "$(($(date +%s) - start))" >build.seconds',
                "test $code -ne 0 || test -s model.engine || code=1",
                "exit $code",
            ]
        )

    def _bench_script(
        self,
        command: str,
        version: Version,
        folders: list[str],
        rounds: int,
        seconds: float,
        shapes: str,
        power_s: float,
    ) -> str:
        extra = [f"--shapes={shapes}"] if shapes else []
        options = bench_arguments(version, duration_s=seconds, cuda_graph=self._cuda_graph)
        timing = shlex.join([command, *options, *extra])
        profiling = shlex.join([command, *profile_arguments(version), *extra])
        lines = [LOCK_CLOCKS.strip(), ": >bench.log", *(idle_lines() if power_s else [])]
        for turn in range(rounds):
            for folder in folders[turn % len(folders) :] + folders[: turn % len(folders)]:
                lines.append(f"( cd {folder} && {timing} ) >bench.log 2>&1 || exit 1")
                lines.append(f"mv {folder}/times.json {folder}/times{turn}.json || exit 1")
        lines.append(f"sh -c {shlex.quote(STATE)} >state")  # while the clocks are as they were in the measurement
        if power_s:
            loop = bench_arguments(version, duration_s=power_s, cuda_graph=self._cuda_graph)
            for folder in folders:
                lines += busy_lines(folder, shlex.join([command, *loop, *extra]))
        # Kernel times are useful, but the measurement is valid without them.
        lines += [f"( cd {folder} && {profiling} ) >profile.log 2>&1" for folder in folders]
        return "\n".join([*lines, "exit 0"])

    def _collect(
        self,
        space: Workspace,
        folder: str,
        rounds: int,
        device: str,
        version: Version,
        clocks: str,
        state: Mapping[str, str],
        power_s: float,
    ) -> DeviceResult:
        blocks = [block for turn in range(rounds) for block in read_times(space.read(f"{folder}/times{turn}.json"))]
        taken = re.sub(rb"\D", b"", space.read(f"{folder}/build.seconds") or b"") or b"0"
        engine = space.read(f"{folder}/model.engine")
        if engine is None:
            raise BackendError(f"{self.host.name}: the measured engine is missing")
        layers = read_layers(space.read(f"{folder}/profile.json"), space.read(f"{folder}/layers.json"))
        return DeviceResult(
            latency=measurement_of(blocks),
            device=device,
            versions={"tensorrt": str(version)},
            clocks=clocks,
            ran_on={"TensorRT": len(layers)} if layers else {},
            build_seconds=float(taken),
            engine=engine,
            layers=layers,
            conditions=state,
            energy=self._energy(space, folder, power_s) if power_s else None,
        )

    def _energy(self, space: Workspace, folder: str, power_s: float) -> Energy | None:
        busy, times = read_text(space, f"{folder}/power.log"), space.read(f"{folder}/power.json")
        if times is None:  # there are no sensors
            return None
        return energy_of(read_text(space, "idle.log"), busy, period_ms(times), power_s)


def _shapes_option(shapes: Mapping[str, Sequence[int]] | None) -> str:
    return ",".join(f"{spec_name(name)}:{'x'.join(map(str, shape))}" for name, shape in (shapes or {}).items())
