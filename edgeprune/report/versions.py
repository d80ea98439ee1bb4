"""Versions of what made a result."""

from __future__ import annotations

import platform
from importlib.metadata import version

import edgeprune


def installed_versions(*also: str) -> dict[str, str]:
    """Versions of the packages that determine the result, of ``also``, and of ``python``."""
    packages = ["onnx", "onnx-ir", "onnxruntime", "numpy", "scipy", "highspy", *also]
    return {
        "edgeprune": edgeprune.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }
