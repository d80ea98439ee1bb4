from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import edgeprune

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NET = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) { y = Relu(x) }
"""
FOLDERS = {
    "edgeprune": ROOT / "edgeprune",
    "edgeprune.passes": ROOT / "passes",
    "edgeprune.hwprofiles": ROOT / "hwprofiles",
}


def package_folders() -> dict[str, Path]:
    """Dotted name -> folder of everything below the package's folders that Python can import from."""
    found = {}
    for package, folder in FOLDERS.items():
        for init in folder.rglob("__init__.py"):
            found[".".join([package, *init.parent.relative_to(folder).parts])] = init.parent
    return found


def test_every_package_is_installed():
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(package_folders())


def test_every_module_is_in_a_package():
    folders = set(package_folders().values())
    assert [file for folder in FOLDERS.values() for file in folder.rglob("*.py") if file.parent not in folders] == []


def test_every_data_file_beside_modules_is_installed():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    folders = package_folders()
    for package, folder in folders.items():
        for file in folder.iterdir():
            if file.is_file() and file.suffix != ".py":
                assert any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns.get(package, [])), file


def test_the_version_is_said_once():
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "edgeprune.__version__"}
    assert version("edgeprune") == edgeprune.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[{re.escape(edgeprune.__version__)}\]", changes, re.MULTILINE)


def test_constraints_pin_every_direct_dependency():
    pinned = {
        re.split(r"[=;]", line)[0] for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    for_devices = re.compile(r"extra == .(rtx|surgery|tensorrt).")  # installed where there is a device, never in CI
    named = {
        re.split(r"[ <>=!~;\[]", requirement)[0]
        for requirement in requires("edgeprune") or []
        if not for_devices.search(requirement)
    }
    assert named - {"edgeprune"} - pinned == set()


def pythons() -> dict[str, Path]:
    """Minor version -> interpreter of every supported Python that is on this machine, pyenv's included."""
    found = {}
    homes = [Path(shutil.which(f"python3.{minor}") or "") for minor in range(10, 14)]
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
        homes += sorted(Path(listed).glob("versions/3.1?.*/bin/python"))
    for python in [Path(sys.executable), *homes]:
        if not python.is_file():
            continue
        code = "import sys, venv, ensurepip; print(*sys.version_info[:2], sep='.')"
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found.setdefault(done.stdout.strip(), python)
    return {minor: python for minor, python in found.items() if minor in ("3.10", "3.11", "3.12", "3.13")}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel and the source archive, built twice, from two copies of what git would commit."""
    tools = tmp_path_factory.mktemp("tools")
    venv.create(tools, with_pip=True)
    pip(tools / "bin" / "python", "build", "setuptools>=77")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    files = [Path(name) for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    made = []
    for copy in ("first", "second"):
        tree = tmp_path_factory.mktemp(copy) / "edgeprune"
        for file in files:
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).write_bytes((ROOT / file).read_bytes())
            (tree / file).chmod((ROOT / file).stat().st_mode)
        command = [tools / "bin" / "python", "-m", "build", "--no-isolation", "--outdir", tree / "dist", tree]
        environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
        subprocess.run(command, check=True, timeout=300, capture_output=True, env=environment)
        made += sorted((tree / "dist").iterdir())
    return made


def pip(python: Path, *what: str) -> None:
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *what]
    subprocess.run(command, check=True, timeout=1200)


@pytest.mark.slow
def test_archives_are_the_same_byte_for_byte(archives: list[Path]):
    wheel, source, *again = archives
    assert [a.name for a in again] == [wheel.name, source.name]
    assert [wheel.read_bytes(), source.read_bytes()] == [a.read_bytes() for a in again]


@pytest.mark.slow
@pytest.mark.parametrize("minor", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("kind", [".whl", ".tar.gz"])
def test_it_installs_and_runs_on_its_own(minor: str, kind: str, archives: list[Path], tmp_path: Path):
    if minor not in pythons():
        pytest.skip(f"there is no Python {minor} here")
    if kind == ".tar.gz" and minor not in ("3.10", "3.13"):
        pytest.skip("the source archive is tried on the oldest and the newest")
    subprocess.run([pythons()[minor], "-m", "venv", tmp_path / "env"], check=True, timeout=120)
    python = tmp_path / "env" / "bin" / "python"
    pip(python, str(next(a for a in archives if a.name.endswith(kind))))
    onnx.save(onnx.parser.parse_model(NET), tmp_path / "net.onnx")
    for arguments in (
        ["--version"],
        ["doctor", "--target", "cpu"],
        ["predict", "net.onnx", "--target", "orin"],
        ["recipe", "show", "net.onnx", "--target", "orin"],
        ["bench", "net.onnx", "--seconds", "0.01"],
    ):
        subprocess.run([tmp_path / "env" / "bin" / "edgeprune", *arguments], check=True, timeout=120, cwd=tmp_path)
    code = "import edgeprune, importlib.resources as r; assert r.files('edgeprune').joinpath('py.typed').is_file()"
    subprocess.run([python, "-c", code], check=True, timeout=60, cwd=tmp_path)
