"""``edgeprune doctor``: what is installed, what works, and which command installs what a target lacks."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import edgeprune
from edgeprune.backends import openvino_is_installed, try_openvino, try_providers
from edgeprune.devices import load_profile
from edgeprune.errors import EdgepruneError
from edgeprune.support import cache_folder

if TYPE_CHECKING:
    from rich.console import Console

Status = Literal["ok", "missing", "broken"]

_EXTRAS = {
    "images": ("pillow", "PIL", "folders of images as --calib"),
    "surgery": ("onnx-graphsurgeon", "onnx_graphsurgeon", "--surgery"),
    "rtx": ("tensorrt-rtx-cu13", "tensorrt_rtx", "a build without a GPU, which proves that TensorRT accepts the graph"),
    "openvino": ("openvino", "openvino", "--runtime openvino, and auto, on a CPU"),
    "tensorrt": ("tensorrt", "tensorrt", "measuring on this machine's own NVIDIA GPU or Jetson"),
    "torch": ("torch", "torch", "`export` and `apply`"),
}
_TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
_JETSON = Path("/etc/nv_tegra_release")
_MARKS = {"ok": "green", "missing": "yellow", "broken": "red"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked.
        status: ``ok``, ``missing`` or ``broken``.
        detail: version, what is wrong, or what it is used for.
        remedy: the command that repairs it; empty if there is none or nothing to repair.
        needed: whether edgeprune, or the given target, does not work without it.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""
    needed: bool = False


@dataclass(frozen=True)
class Examination:
    """All checks."""

    target: str | None
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether everything that is needed works."""
        return all(f.status == "ok" for f in self.findings if f.needed)

    def to_json(self) -> dict[str, object]:
        """What ``--json`` prints."""
        return {"healthy": self.healthy, **asdict(self)}


def examine(target: str | None = None) -> Examination:
    """Check the installation, and what a target needs.

    Raises:
        TargetError: the target is unknown.
    """
    name = None
    if target is not None:
        name = load_profile(target).name
    findings = [_version(), *_packages(), *_providers(), _cache(), *_extras(), *_devices(name)]
    return Examination(name, tuple(findings))


def print_examination(console: Console, found: Examination, *, verbose: bool) -> None:
    """Print what works, what does not, and the commands that repair it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for f in found.findings:
        if verbose or f.status != "ok" or f.needed:
            table.add_row(Text(f.status, style=_MARKS[f.status]), Text(f.name), Text(f.detail))
    console.print(table)
    for f in found.findings:
        if f.remedy:
            kind = "needed" if f.needed else "optional"
            console.print(f"{kind}, for {f.name}: {f.remedy}", markup=False, soft_wrap=True)
    where = "" if found.target is None else f" for target {found.target}"
    console.print(f"everything needed{where} works" if found.healthy else f"something needed{where} does not work")


def _version() -> Finding:
    detail = f"{edgeprune.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding("edgeprune", "ok", detail, needed=True)


def _packages() -> Iterator[Finding]:
    for requirement in requires("edgeprune") or ():
        if "extra ==" in requirement or _is_for_other_pythons(requirement):
            continue
        name = requirement.split(";")[0]
        for mark in "<>=!~ [":
            name = name.partition(mark)[0]
        yield _package(name, f"pip install '{requirement.split(';')[0]}'")


def _is_for_other_pythons(requirement: str) -> bool:
    return "python_version <" in requirement.replace('"', "") and sys.version_info >= (3, 11)


def _package(name: str, remedy: str) -> Finding:
    try:
        return Finding(name, "ok", version(name), needed=True)
    except PackageNotFoundError:
        return Finding(name, "missing", "is not installed", remedy, needed=True)


def _providers() -> Iterator[Finding]:
    for trial in try_providers():
        needed = trial.provider == "CPUExecutionProvider"
        yield Finding(trial.provider, "ok" if trial.works else "broken", trial.detail, needed=needed)


def _cache() -> Finding:
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        remedy = "export EDGEPRUNE_CACHE=FOLDER"
        return Finding("cache folder", "broken", f"{folder}: {error.strerror}", remedy, needed=True)
    return Finding("cache folder", "ok", str(folder), needed=True)


def _extras() -> Iterator[Finding]:
    for extra, (package, module, purpose) in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            remedy = f"pip install 'edgeprune[{extra}]'"
            yield Finding(f"[{extra}]", "missing", f"{package}: needed for {purpose}", remedy)
        else:
            yield Finding(f"[{extra}]", "ok", f"{package} {_version_of(package)}, for {purpose}")


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not from a package)"


def _devices(target: str | None) -> Iterator[Finding]:
    if target is not None and load_profile(target).runtime().on_cpu:
        yield from _openvino()
        return
    if importlib.util.find_spec("tensorrt_rtx") is not None:
        yield _rtx_builds()
    trtexec = shutil.which("trtexec") or (_TRTEXEC if os.access(_TRTEXEC, os.X_OK) else None)
    here = _JETSON.is_file() or shutil.which("nvidia-smi") is not None
    if here:
        found = Finding("trtexec", "ok", trtexec) if trtexec else None
        yield found or Finding("trtexec", "missing", "measures engines on this machine", "sudo apt install tensorrt")
    if target is None:
        return
    if here:
        yield Finding(f"device {target}", "ok", "this machine has an NVIDIA device; --device local measures on it")
    elif shutil.which("ssh"):
        detail = f"compile --target {target} predicts without it; to measure, use one over SSH"
        remedy = f"edgeprune bench dense.onnx model.onnx --target {target} --device ssh://user@host"
        yield Finding(f"device {target}", "missing", detail, remedy)
    else:
        detail = "this machine has no such device, and no ssh to reach one"
        yield Finding(f"device {target}", "missing", detail, "sudo apt install openssh-client")


def _openvino() -> Iterator[Finding]:
    if openvino_is_installed():
        trial = try_openvino()
        yield Finding(trial.provider, "ok" if trial.works else "broken", trial.detail)


def _rtx_builds() -> Finding:
    import onnx.parser
    import onnx_ir as ir

    from edgeprune.backends import TINY_NET, tensorrt_rtx

    try:
        tensorrt_rtx.build(ir.from_proto(onnx.parser.parse_model(TINY_NET)), timeout_s=120.0)
    except EdgepruneError as error:
        return Finding("TensorRT for RTX", "broken", str(error))
    return Finding("TensorRT for RTX", "ok", "built an engine of one convolution; it measures no latency")
