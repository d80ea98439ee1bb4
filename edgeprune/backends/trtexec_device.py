"""Build and measure with ``trtexec`` on this machine or over SSH: a fully quoted script does the work there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping

import onnx_ir as ir

from edgeprune.backends.host import Host, LocalHost, Workspace, describe, read_text, upload
from edgeprune.backends.results import DeviceResult, measurement_of
from edgeprune.backends.trtexec import (
    Version,
    bench_arguments,
    build_arguments,
    error_in,
    parse_version,
    profile_arguments,
    read_layers,
    read_times,
    typing_of,
)
from edgeprune.errors import BackendError

_FIND = """
for t in trtexec /usr/src/tensorrt/bin/trtexec /opt/tensorrt/bin/trtexec /usr/local/tensorrt/bin/trtexec
do command -v "$t" && exit 0; done; exit 1
"""

_DESCRIBE = """
tr -d '\\000' </proc/device-tree/model 2>/dev/null && echo
nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: */power mode /p'
nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1
head -n 1 /etc/nv_tegra_release 2>/dev/null
uname -m; true
"""

_LOCK_CLOCKS = """
echo 'no jetson_clocks on the device' >clocks
if command -v jetson_clocks >/dev/null; then
    if sudo -n jetson_clocks --store clocks.conf 2>/dev/null; then
        trap 'sudo -n jetson_clocks --restore clocks.conf' EXIT
        trap 'exit 143' INT TERM HUP
        if sudo -n jetson_clocks; then echo locked >clocks; else echo 'jetson_clocks failed' >clocks; fi
    else
        echo 'not permitted: sudo asks for a password' >clocks
    fi
fi
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
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, DeviceResult]:
        """Build every model and measure them in turns.

        Args:
            models: name -> lowered model.
            rounds: number of measurements of each engine; the engines take turns.
            seconds: time of each measurement.
            shapes: input name -> shape, for inputs with an open size.
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
            device = describe(space, _DESCRIBE)
            names = {name: f"m{index}" for index, name in enumerate(models)}
            stated = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in (shapes or {}).items())
            for name, model in models.items():
                upload(space, names[name], model)
                script = self._build_script(command, version, names[name], model, stated)
                code = space.job(script, self._timeout_s, lambda s, name=name: tell(f"building {name}", s))  # type: ignore[misc]
                if code:
                    log = read_text(space, f"{names[name]}/build.log")
                    raise BackendError(f"{self.host.name}: trtexec could not build {name}: {error_in(log)}")
            bench = self._bench_script(command, version, list(names.values()), rounds, seconds, stated)
            allowed_s = 120 + len(models) * (rounds * (seconds + 30) + 60)
            if space.job(bench, allowed_s, lambda s: tell("measuring", s)):
                log = read_text(space, "bench.log")
                raise BackendError(f"{self.host.name}: trtexec could not measure an engine: {error_in(log)}")
            clocks = read_text(space, "clocks").strip()
            return {
                name: self._collect(space, folder, rounds, device, version, clocks) for name, folder in names.items()
            }

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
        self, command: str, version: Version, folders: list[str], rounds: int, seconds: float, shapes: str
    ) -> str:
        extra = [f"--shapes={shapes}"] if shapes else []
        options = bench_arguments(version, duration_s=seconds, cuda_graph=self._cuda_graph)
        timing = shlex.join([command, *options, *extra])
        profiling = shlex.join([command, *profile_arguments(version), *extra])
        lines = [_LOCK_CLOCKS.strip(), ": >bench.log"]
        for turn in range(rounds):
            for folder in folders[turn % len(folders) :] + folders[: turn % len(folders)]:
                lines.append(f"( cd {folder} && {timing} ) >bench.log 2>&1 || exit 1")
                lines.append(f"mv {folder}/times.json {folder}/times{turn}.json || exit 1")
        # Kernel times are useful, but the measurement is valid without them.
        lines += [f"( cd {folder} && {profiling} ) >profile.log 2>&1" for folder in folders]
        return "\n".join([*lines, "exit 0"])

    def _collect(
        self, space: Workspace, folder: str, rounds: int, device: str, version: Version, clocks: str
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
        )
