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

from edgeprune._deferred import defer_sympy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgeprune import errors as errors
    from edgeprune.calibration_spec import CalibrationSpec as CalibrationSpec
    from edgeprune.compiler import compile_model as compile
    from edgeprune.inspection import inspect_model as inspect
    from edgeprune.plan import Plan as Plan
    from edgeprune.pruner import prune_model as prune
    from edgeprune.report.model import Report as Report
    from edgeprune.targets import load_profile as load_profile

_HOME = {
    "CalibrationSpec": "edgeprune.calibration_spec:CalibrationSpec",
    "Plan": "edgeprune.plan:Plan",
    "Report": "edgeprune.report.model:Report",
    "compile": "edgeprune.compiler:compile_model",
    "errors": "edgeprune.errors",
    "inspect": "edgeprune.inspection:inspect_model",
    "load_profile": "edgeprune.targets:load_profile",
    "prune": "edgeprune.pruner:prune_model",
}

__all__ = ["CalibrationSpec", "Plan", "Report", "__version__", "compile", "errors", "inspect", "load_profile", "prune"]


defer_sympy()


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = import_module(module)
    return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
