"""Build and measure with ``trtexec`` on this machine or over SSH: a fully quoted script does the work there."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from edgeprune.backends.results import DeviceResult, EngineRuns, EngineSample, measurement_of
from edgeprune.backends.tensorrt_device import by_python, has_module
from edgeprune.backends.trtexec import Version, error_in, parse_version, period_ms, read_layers, read_times
from edgeprune.backends.trtexec_outputs import Feeds, by_trtexec
from edgeprune.backends.trtexec_scripts import (
    FIND,
    MADE,
    PINNED,
    Bench,
    Caching,
    build_script,
    probe_script,
    probed,
    shapes_option,
)
from edgeprune.backends.upload import upload
from edgeprune.errors import BackendError
from edgeprune.hosts import Host, LocalHost, Workspace, conditions, read_text
from edgeprune.support import output_file
from edgeprune.timing import energy_of, memory_of

_SECONDS_A_START = 60.0
"""Allowed for one start of trtexec; it takes two or three on a Jetson."""

CACHE = "timing cache"
"""Where the conditions of a measurement name the timing cache that was pinned, by the start of its SHA-256."""


def is_installed() -> bool:
    """Whether this machine has ``trtexec`` in one of the usual folders."""
    with LocalHost().workspace() as space:
        return space.run(["sh", "-c", FIND]).code == 0


@dataclass(frozen=True)
class _Probed:
    """What a device says before anything is built: trtexec, its version, the machine, and its state."""

    command: str
    version: Version
    device: str
    state: str


class Trtexec:
    """TensorRT's ``trtexec`` on a host.

    Args:
        host: the machine; this one by default.
        command: path of ``trtexec``, if not in one of the usual folders.
        timeout_s: longest time for one build.
        cuda_graph: whether measurements replay the kernels as one CUDA graph.
        timing_cache: file of a timing cache by which all engines are built. It is never changed; if there is none, it
            is made by the first builds.
    """

    name = "trtexec"

    def __init__(
        self,
        host: Host | None = None,
        *,
        command: str | None = None,
        timeout_s: float = 3600.0,
        cuda_graph: bool = False,
        timing_cache: Path | None = None,
    ):
        self.host = host or LocalHost()
        self._command = command
        self._timeout_s = timeout_s
        self._cuda_graph = cuda_graph
        self._cache = timing_cache
        self._makes_cache = timing_cache is not None and not timing_cache.exists()

    def _caching(self, builds: int) -> Caching:
        if self._cache is not None:
            return "made" if self._makes_cache else "pinned"
        return "kept" if builds == 1 else "fresh"

    def facts(self) -> dict[str, str]:
        """What must be the same on two boards so that they can be compared.

        Raises:
            BackendError: trtexec is missing, or the connection is lost.
        """
        with self.host.workspace() as space:
            found = self._probe(space)
        state = conditions(found.state, found.state)
        state.pop("throttling", None)
        told = found.device.split("; ")  # the power mode and the release of Linux are in the state, too
        machine = "; ".join(part for part in told if not part.startswith(("power mode ", "# R")))
        return {"machine": machine, "TensorRT": str(found.version), **state}

    def measure(
        self,
        models: Mapping[str, ir.Model],
        *,
        rounds: int = 3,
        seconds: float = 3.0,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        power_s: float = 0.0,
        builds: int = 1,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Build every model and measure them in turns.

        Args:
            models: name -> lowered model.
            rounds: number of measurements of each engine; the engines take turns.
            seconds: time of each measurement.
            shapes: input name -> shape, for inputs with an open size.
            power_s: length of a further loop of each engine for its energy, if the device has power sensors.
            builds: engines of each model. If there are several, tactics are timed anew for each, unless there is a
                timing cache; the latencies of all are told, and the rest is that of the one of median latency.
            progress: called with the current step and its seconds so far.

        Raises:
            UsageError: the file of the timing cache cannot be read or written.
            BackendError: trtexec is missing, does not accept a model, or writes a file that cannot be read; or the
                connection is lost.
        """
        tell = progress or (lambda what, seconds: None)
        with self.host.workspace() as space:
            found = self._probe(space)
            names = {name: f"m{index}" for index, name in enumerate(models)}
            stated = shapes_option(shapes)
            pinned = self._send_cache(space)
            for name, model in models.items():
                self._build(space, found, names[name], name, model, stated, tell, builds)
            if self._makes_cache and models:
                pinned = self._keep_cache(space)
            engines = {name: [f"{folder}/b{n}" for n in range(builds)] for name, folder in names.items()}
            folders = [folder for n in range(builds) for folder in (f"{m}/b{n}" for m in names.values())]
            bench = Bench(rounds, seconds, stated, power_s, self._cuda_graph)
            allowed_s = 120 + len(folders) * (rounds * (seconds + 30) + 60 + power_s + 30)
            script = bench.script(found.command, found.version, folders)
            if folders and space.job(script, allowed_s, lambda s: tell("measuring", s)):
                log = read_text(space, "bench.log")
                raise BackendError(f"{self.host.name}: trtexec could not measure an engine: {error_in(log)}")
            files = space.read_all(bench.files(folders))
        state = conditions(found.state, _text(files, "state")) | ({CACHE: pinned} if pinned else {})
        known = {
            name: [self._collect(files, folder, bench, found, state) for folder in own] for name, own in engines.items()
        }
        return {name: _typical(results) for name, results in known.items()}

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
            probe = self._probe(space)
            if engine is None:
                self._send_cache(space)
                self._build(space, probe, "m0", "the model", model, shapes_option(shapes), tell)
                space.run(["mv", "m0/b0/model.engine", "model.engine"])
            else:
                with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
                    (Path(folder) / "model.engine").write_bytes(engine)
                    space.put(Path(folder) / "model.engine", "model.engine")
            allowed_s = 120 + _SECONDS_A_START * len(feeds)
            if has_module(space, "python3"):
                return by_python(space, self.host.name, "python3", model, feeds, allowed_s, tell)
            return by_trtexec(
                space,
                self.host.name,
                probe.command,
                probe.version,
                model,
                feeds,
                shapes_option(shapes),
                allowed_s,
                tell,
            )

    def _build(
        self,
        space: Workspace,
        probe: _Probed,
        folder: str,
        name: str,
        model: ir.Model,
        shapes: str,
        tell: Callable[[str, float], None],
        builds: int = 1,
    ) -> None:
        upload(space, folder, model)
        script = build_script(probe.command, probe.version, folder, model, shapes, builds, self._caching(builds))
        if space.job(script, builds * self._timeout_s, lambda s: tell(f"building {name}", s)):
            logs = space.read_all([f"{folder}/b{number}/build.log" for number in range(builds)])
            log = list(logs.values())[-1].decode(errors="replace") if logs else ""
            raise BackendError(f"{self.host.name}: trtexec could not build {name}: {error_in(log)}")

    def _probe(self, space: Workspace) -> _Probed:
        done = space.run(["sh", "-c", probe_script(self._command)])
        if done.code == 127:
            missing = self._command or "trtexec"
            raise BackendError(f"{self.host.name} has no {missing}; it is part of TensorRT and JetPack")
        command, banner, device, state = probed(done.output)
        return _Probed(command, parse_version(banner), device, state)

    def _send_cache(self, space: Workspace) -> str:
        """Send the timing cache of the user, if there is one; returns the start of its SHA-256."""
        if self._cache is None or not self._cache.exists():
            return ""
        space.put(self._cache, MADE if self._makes_cache else PINNED)
        return _digest(self._cache.read_bytes())

    def _keep_cache(self, space: Workspace) -> str:
        assert self._cache is not None
        content = space.read(MADE)
        if content is None:
            raise BackendError(f"{self.host.name}: trtexec wrote no timing cache")
        with output_file(self._cache, force=True) as file:
            file.write_bytes(content)
        return _digest(content)

    def _collect(
        self, files: Mapping[str, bytes], folder: str, bench: Bench, probe: _Probed, state: Mapping[str, str]
    ) -> DeviceResult:
        own = {name.removeprefix(f"{folder}/"): content for name, content in files.items()}
        blocks = [block for turn in range(bench.rounds) for block in read_times(own.get(f"times{turn}.json"))]
        if (engine := own.get("model.engine")) is None:
            raise BackendError(f"{self.host.name}: the measured engine is missing")
        layers = read_layers(own.get("profile.json"), own.get("layers.json"))
        power = own.get("power.json")  # without sensors there is none
        return DeviceResult(
            latency=measurement_of(blocks),
            device=probe.device,
            versions={"tensorrt": str(probe.version)},
            clocks=_text(files, "clocks").strip(),
            ran_on={"TensorRT": len(layers)} if layers else {},
            build_seconds=float(re.sub(r"\D", "", _text(own, "build.seconds")) or 0),
            engine=engine,
            layers=layers,
            conditions=state,
            energy=None
            if power is None
            else energy_of(_text(files, "idle.log"), _text(own, "power.log"), period_ms(power), bench.power_s),
            memory=memory_of(_text(own, "build.log"), _text(own, "load.log"), _text(own, "memory.log")),
        )


def _typical(builds: Sequence[DeviceResult]) -> DeviceResult:
    """The build of median latency, with the latencies of all if there are several."""
    if len(builds) == 1:
        return builds[0]
    found = sorted(builds, key=lambda result: result.latency.median_ms)[(len(builds) - 1) // 2]
    return replace(found, samples=tuple(EngineSample("", n, result.latency) for n, result in enumerate(builds)))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _text(files: Mapping[str, bytes], name: str) -> str:
    return files.get(name, b"").decode(errors="replace")
