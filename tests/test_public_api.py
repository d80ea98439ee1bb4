from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import edgeprune

HEAVY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "rich", "scipy", "highspy", "plotly")


def test_names():
    names = [
        "CalibrationSpec",
        "Plan",
        "Report",
        "__version__",
        "compile",
        "errors",
        "inspect",
        "load_profile",
        "prune",
    ]
    assert edgeprune.__all__ == names


@pytest.mark.parametrize("name", edgeprune.__all__)
def test_every_name_is_there_and_documented(name: str):
    value = getattr(edgeprune, name)
    assert name in dir(edgeprune)
    if not isinstance(value, str):
        assert inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'shrink'"):
        edgeprune.shrink  # noqa: B018


@pytest.mark.parametrize("statement", ["import edgeprune.cli.commands", "import edgeprune; edgeprune.errors"])
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str):
    code = f"import sys; {statement}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
