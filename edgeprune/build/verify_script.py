"""The commands that check a prediction on the device, and the script beside the model that runs them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from edgeprune.backends import Version, graph_arguments, single_command, typing_of
from edgeprune.devices import Profile

VERIFY = "verify.sh"
_PLACES = "/usr/src/tensorrt/bin"

_WEAKLY_TYPED_NOTE = """\
# This device's TensorRT is weakly typed (JetPack 5 has 8.5): it may compute a layer in a wider type than the graph
# says where that is faster, and INT8 where the graph has Q/DQ. If it refuses an INT8 layer, leave --int8 out: without
# it TensorRT does not build a graph with Q/DQ, so compile again with --precision fp16.
"""


def command_for(model: ir.Model, profile: Profile, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The trtexec command, quoted for a shell, that builds ``model.onnx`` on the device and times it."""
    command = single_command(_version(profile), typing_of(model))
    if shapes:
        stated = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
        command += [f"--{which}Shapes={stated}" for which in ("min", "opt", "max")]
    return shlex.join(command)


def bench_line(profile: Profile, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The ``edgeprune bench`` command that compares the result with the dense model on the device, over SSH."""
    stated = [f"--shape={name}={'x'.join(map(str, shape))}" for name, shape in shapes.items()]
    command = ["edgeprune", "bench", "dense.onnx", "model.onnx", "--target", profile.name]
    return shlex.join([*command, "--device", "ssh://USER@DEVICE", *stated])


def write_verify_script(
    folder: Path, command: str, bench: str, profile: Profile, predicted_ms: float, error: float
) -> None:
    """Write a shell script to run beside ``model.onnx`` on the device."""
    file = folder / VERIFY
    file.write_text(verify_script(command, bench, profile, predicted_ms, error), encoding="utf-8")
    file.chmod(0o755)


def verify_script(command: str, bench: str, profile: Profile, predicted_ms: float, error: float) -> str:
    """The text of the script."""
    weak = _version(profile).release.typing == "weak"
    replayed, launched = (shlex.join(graph_arguments(_version(profile), graph)) for graph in (True, False))
    return "\n".join(
        [
            "#!/bin/sh",
            "# Builds model.onnx with TensorRT's trtexec on the device that it was compiled for, and times it there.",
            f"# Predicted, not measured: {predicted_ms:.4g} ms, typical error {error:.0%}. Compare it with the",
            '# median of "GPU Compute Time". For steady figures lock the clocks first: sudo jetson_clocks',
            *(_WEAKLY_TYPED_NOTE.splitlines() if weak else []),
            "# From another machine, where edgeprune is installed:",
            f"#   {bench}",
            "# sh verify.sh --cuda-graph replays the kernels as one CUDA graph; the prediction is without it.",
            "set -eu",
            'cd "$(dirname "$0")"',
            f'PATH="$PATH:{_PLACES}"',
            "command -v trtexec >/dev/null || {",
            f'  echo "$0: there is no trtexec in {_PLACES} or on the PATH: sudo apt install libnvinfer-bin" >&2',
            "  exit 5",
            "}",
            f'if [ "${{1:-}}" = --cuda-graph ]; then set -- {replayed}; else set -- {launched}; fi',
            f'exec {command} "$@"',
            "",
        ]
    )


def _version(profile: Profile) -> Version:
    return Version(*(int(part) for part in profile.tensorrt[-1].split(".")))
