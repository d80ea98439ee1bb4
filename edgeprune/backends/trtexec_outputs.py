"""What an engine computes, by ``trtexec``: the files of ``--loadInputs``, and those of ``--exportOutput``.

An input is a file of raw values, little-endian, in the engine's type. The outputs are JSON, with six digits. Two
things in it are not JSON: values that are not finite, and a sentence before the values of an output whose size depends
on the data. From trtexec's sources; the forms are the same from 8.5 to 11.
"""

from __future__ import annotations

import io
import re
import shlex
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.results import EngineRuns
from edgeprune.backends.trtexec import Version, error_in
from edgeprune.errors import BackendError
from edgeprune.hosts import Workspace, read_text

Array = NDArray[Any]
Feeds = Mapping[str, Array]

_OUTPUT = re.compile(
    r'"name"\s*:\s*"(?P<name>.*?)"\s*,\s*"dimensions"\s*:\s*"(?P<sizes>[^"]*)"\s*,\s*"values"\s*:\s*\[(?P<values>.*?)\]',
    re.DOTALL,
)
_FINAL_SHAPE = re.compile(r"Final shape is (?P<sizes>[0-9x]*) reported by the output allocator\.")


def spec_name(name: str) -> str:
    """A tensor's name as trtexec's options take it: in single quotes if it has a colon.

    Raises:
        BackendError: no spelling of the name is possible.
    """
    if re.search(r"[',\"]", name):
        raise BackendError(f"trtexec cannot be given input {name!r}: its name has a comma or a quote")
    return f"'{name}'" if ":" in name else name


def by_trtexec(
    space: Workspace,
    host: str,
    command: str,
    version: Version,
    model: ir.Model,
    feeds: Sequence[Feeds],
    shapes: str,
    allowed_s: float,
    tell: Callable[[str, float], None],
) -> EngineRuns:
    """What ``model.engine`` of a workspace computes, by one start of trtexec for every feed.

    Raises:
        BackendError: it cannot run the engine.
    """
    inputs = [str(value.name) for value in model.graph.inputs if value.name not in model.graph.initializers]
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        (Path(folder) / "feeds.tar").write_bytes(input_files(feeds, inputs, version))
        space.put(Path(folder) / "feeds.tar", "feeds.tar")
    extra = [f"--shapes={shapes}"] if shapes else []
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
        raise BackendError(f"{host}: trtexec could not run the engine: {error_in(read_text(space, 'run.log'))}")
    return EngineRuns(output_files(space.read("outputs.tar") or b"", model.graph.outputs, len(feeds)), "trtexec")


def output_arguments(version: Version, inputs: Sequence[str]) -> list[str]:
    """Options that run ``model.engine`` of the folder above once on the files of `input_files`."""
    loaded = ",".join(f"{spec_name(name)}:{number}.bin" for number, name in enumerate(inputs))
    arguments = ["--loadEngine=../model.engine", "--iterations=1", "--duration=0", "--warmUp=0"]
    if version.release.graph_by_default:
        arguments.append("--includeDataTransfers")
    return [*arguments, *([f"--loadInputs={loaded}"] if inputs else []), "--exportOutput=outputs.json"]


def input_files(feeds: Sequence[Feeds], inputs: Sequence[str], version: Version) -> bytes:
    """A tar archive with one folder for each feed, ``f0``, ``f1``, ..., and in it one file for each input."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number, feed in enumerate(feeds):
            for position, name in enumerate(inputs):
                content = _raw(feed[name], version)
                member = tarfile.TarInfo(f"f{number}/{position}.bin")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _raw(array: Array, version: Version) -> bytes:
    if array.dtype == np.int64 and version.release.int64_as_int32:
        if array.size and max(abs(int(array.max())), abs(int(array.min()))) > np.iinfo(np.int32).max:
            raise BackendError("an input has int64 values that this TensorRT, which stores 32 bits, cannot hold")
        array = array.astype(np.int32)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def output_files(packed: bytes, outputs: Sequence[ir.Value], feeds: int) -> list[list[Array]]:
    """The outputs of every feed, from a tar archive of its ``outputs.json``.

    Raises:
        BackendError: a file is missing, or has another form.
    """
    found = []
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = {member.name.removeprefix("./"): member for member in archive.getmembers()}
        for number in range(feeds):
            member = files.get(f"f{number}/outputs.json")
            content = None if member is None else archive.extractfile(member)
            if content is None:
                raise BackendError("trtexec wrote no file for --exportOutput")
            found.append(read_outputs(content.read().decode(errors="replace"), outputs))
    return found


def read_outputs(text: str, outputs: Sequence[ir.Value]) -> list[Array]:
    """The values of a file of ``--exportOutput``, in the order and types of the model's outputs.

    Raises:
        BackendError: an output is missing, or its values have another form.
    """
    known = {match["name"]: match for match in _OUTPUT.finditer(text)}
    return [_array(known.get(str(value.name)), value) for value in outputs]


def _array(match: re.Match[str] | None, value: ir.Value) -> Array:
    if match is None:
        raise BackendError(f"trtexec's --exportOutput has no output {value.name!r}")
    sizes, values = match["sizes"], match["values"]
    if (final := _FINAL_SHAPE.search(values)) is not None:
        sizes, values = final["sizes"], values[final.end() :]
    shape = tuple(int(size) for size in sizes.split("x") if size.isdigit())
    try:
        numbers = np.array([float(part) for part in values.split(",") if part.strip()])
        with np.errstate(invalid="ignore", over="ignore"):
            return numbers.reshape(shape).astype(np.float32 if value.dtype is None else value.dtype.numpy())
    except ValueError as error:
        raise BackendError(f"trtexec's --exportOutput has an unknown form for {value.name!r}: {error}") from error
