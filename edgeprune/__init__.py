"""edgeprune: an ONNX graph-level edge deployment compiler.

The public API, in the words of the command line. Everything is imported on first use, so that importing the package
costs nothing.

    compile(model, target, ...)     compress a model for a target within a budget -> Report
    prune(model, ratio, ...)        remove a share of its channels and heads -> Report
    inspect(model)                  what can be removed, and what cannot and why
    load_profile(target)            a device's latency profile
    Plan                            every decision: what plan.json says
    Report                          every measurement: what report.json says
    errors                          the exception tree
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edgeprune.support import defer_sympy, keep_moved_names

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgeprune import errors as errors
    from edgeprune.build import Plan as Plan
    from edgeprune.calibration import CalibrationSpec as CalibrationSpec
    from edgeprune.compiler import compile_model as compile
    from edgeprune.compiler import prune_model as prune
    from edgeprune.dependency import inspect_model as inspect
    from edgeprune.devices import load_profile as load_profile
    from edgeprune.report import Report as Report

_HOME = {
    "CalibrationSpec": "edgeprune.calibration:CalibrationSpec",
    "Plan": "edgeprune.build:Plan",
    "Report": "edgeprune.report:Report",
    "compile": "edgeprune.compiler:compile_model",
    "errors": "edgeprune.errors",
    "inspect": "edgeprune.dependency:inspect_model",
    "load_profile": "edgeprune.devices:load_profile",
    "prune": "edgeprune.compiler:prune_model",
}

__all__ = ["CalibrationSpec", "Plan", "Report", "__version__", "compile", "errors", "inspect", "load_profile", "prune"]


defer_sympy()
keep_moved_names()


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = import_module(module)
    return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
