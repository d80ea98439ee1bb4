from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import edgeprune

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
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
    assert PROJECT["project"]["version"] == edgeprune.__version__
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


@pytest.mark.slow
def test_the_wheel_works_on_its_own(tmp_path: Path):
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = tmp_path.glob("edgeprune-*.whl")
    unpacked = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(unpacked), str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    code = (
        "import sys, importlib.resources as r; sys.path.insert(0, sys.argv[1]);"
        "import edgeprune, edgeprune.passes as p;"
        "assert edgeprune.__file__.startswith(sys.argv[1]); assert p.__file__.startswith(sys.argv[1]);"
        "assert r.files('edgeprune').joinpath('py.typed').is_file();"
        "assert r.files('edgeprune.report').joinpath('assets', 'page.js').is_file()"
    )
    subprocess.run([sys.executable, "-c", code, str(unpacked)], check=True, timeout=60, cwd=tmp_path)
