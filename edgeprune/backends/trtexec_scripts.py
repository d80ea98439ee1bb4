"""The shell scripts that build engines with ``trtexec`` and measure them in turns, and what they leave behind.

A model is in a folder of its own. Each of its builds has a folder in that one, ``b0``, ``b1``, ..., with the engine,
its logs and the files of its measurements. A script does all builds of a model, and another one all measurements of all
models: over SSH every command costs a round trip.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from edgeprune.backends.trtexec import Version, bench_arguments, build_arguments, profile_arguments, typing_of
from edgeprune.backends.trtexec_outputs import spec_name
from edgeprune.hosts import DESCRIBE, LOCK_CLOCKS, POWER, STATE, busy_lines, idle_lines, memory_lines

FIND = """
for t in trtexec /usr/src/tensorrt/bin/trtexec /opt/tensorrt/bin/trtexec /usr/local/tensorrt/bin/trtexec
do command -v "$t" && exit 0; done; exit 1
"""

PINNED, MADE = "given.cache", "made.cache"
"""Timing caches in the workspace: the user's, which stays as it is, and one that grows with every build."""

_RULE = "----edgeprune----"

Caching = Literal["kept", "fresh", "pinned", "made"]
"""Where tactics are timed: in the user's cache folder on the device; anew for every build; by the given cache; or into
a new one, which the user wants to have."""


def probe_script(command: str | None) -> str:
    """Print where trtexec is, what it says of itself, what the machine is, and its state, with a rule between them."""
    find = f"command -v {shlex.quote(command)}" if command else f"( {FIND.strip()} )"
    told = f'found=$( {find} ) || exit 127\necho "$found"; echo {_RULE}\n"$found" --help 2>&1; echo {_RULE}'
    return "\n".join([told, f"( {DESCRIBE.strip()} ); echo {_RULE}", STATE.strip()])


def probed(output: str) -> tuple[str, str, str, str]:
    """The four parts of what `probe_script` printed."""
    found, banner, device, state = (part.strip("\n") for part in output.split(f"{_RULE}\n", 3))
    return found.strip().splitlines()[0], banner, "; ".join(filter(None, map(str.strip, device.splitlines()))), state


def build_script(
    command: str,
    version: Version,
    folder: str,
    model: ir.Model,
    shapes: str,
    builds: int = 1,
    caching: Caching = "kept",
) -> str:
    """Build the model of a folder as often as wanted; ends with 1 and the folder of the build if one fails."""
    arguments = build_arguments(version, typing_of(model))
    if shapes:
        arguments += [f"--{which}Shapes={shapes}" for which in ("min", "opt", "max")]
    # A timing cache is valid for one version on one device.
    own = f'"${{XDG_CACHE_HOME:-$HOME/.cache}}/edgeprune/trtexec-{version}.cache"'
    cache = {"kept": own, "made": f'"$space"/{MADE}'}.get(caching, "own.cache")
    before = {
        "kept": 'mkdir -p "${XDG_CACHE_HOME:-$HOME/.cache}/edgeprune"',
        "pinned": f'cp "$space"/{PINNED} own.cache || exit 1',
    }.get(caching, "rm -f own.cache")
    lines = ['space="$PWD"', f"cd {shlex.quote(folder)} || exit 1"]
    for number in range(builds):
        lines += [
            f"mkdir -p b{number}",
            before,
            "start=$(date +%s)",
            f"{shlex.join([command, *arguments])} --timingCacheFile={cache} >b{number}/build.log 2>&1",
            "code=$?",
            f'echo "$(($(date +%s) - start))" >b{number}/build.seconds',
            f"mv model.engine b{number}/ 2>/dev/null && test $code -eq 0 || {{ echo b{number} >failed; exit 1; }}",
        ]
    return "\n".join([*lines, "rm -f own.cache; exit 0"])


@dataclass(frozen=True)
class Bench:
    """How engines are measured.

    Attributes:
        rounds: turns of each engine.
        seconds: length of a turn.
        shapes: the value of ``--shapes``; empty if no input has an open size.
        power_s: length of a further loop for the energy; 0 for none.
        cuda_graph: whether the kernels are replayed as one CUDA graph.
    """

    rounds: int
    seconds: float
    shapes: str
    power_s: float
    cuda_graph: bool

    def script(self, command: str, version: Version, folders: Sequence[str]) -> str:
        """Measure the engines of these folders in turns; the state of the device is read before the clocks change."""
        extra = [f"--shapes={self.shapes}"] if self.shapes else []
        timing = shlex.join([command, *self._options(version, self.seconds), *extra])
        profiling = shlex.join([command, *profile_arguments(version), *extra])
        lines = [f"cat >power.sh <<'EOF'\n{POWER.strip()}\nEOF"] if self.power_s else []
        lines += [LOCK_CLOCKS.strip(), ": >bench.log", *(idle_lines() if self.power_s else [])]
        for turn in range(self.rounds):
            start = turn % len(folders)
            for folder in (*folders[start:], *folders[:start]):
                lines.append(f"( cd {folder} && {timing} ) >bench.log 2>&1 || exit 1")
                lines.append(f"mv {folder}/times.json {folder}/times{turn}.json || exit 1")
                lines += [f"cp bench.log {folder}/load.log"] if not turn else []
        lines.append(f"sh -c {shlex.quote(STATE)} >state")  # while the clocks are as they were in the measurement
        if self.power_s:
            loop = shlex.join([command, *self._options(version, self.power_s), *extra])
            for folder in folders:
                lines += busy_lines(folder, loop)
        # Kernel times and memory are useful, but the measurement is valid without them.
        for folder in folders:
            lines += memory_lines(folder, f"( cd {folder} && {profiling} ) >profile.log 2>&1")
        return "\n".join([*lines, "exit 0"])

    def files(self, folders: Sequence[str]) -> list[str]:
        """Everything that the scripts leave which is read afterwards."""
        own = [f"times{turn}.json" for turn in range(self.rounds)]
        own += ["build.seconds", "build.log", "load.log", "profile.json", "layers.json", "memory.log", "model.engine"]
        own += ["power.log", "power.json"] if self.power_s else []
        common = ["clocks", "state", *(["idle.log"] if self.power_s else [])]
        return [*common, *(f"{folder}/{name}" for folder in folders for name in own)]

    def _options(self, version: Version, seconds: float) -> list[str]:
        return bench_arguments(version, duration_s=seconds, cuda_graph=self.cuda_graph)


def shapes_option(shapes: Mapping[str, Sequence[int]] | None) -> str:
    """Shapes of inputs as trtexec's options take them."""
    return ",".join(f"{spec_name(name)}:{'x'.join(map(str, shape))}" for name, shape in (shapes or {}).items())
