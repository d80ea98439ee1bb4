"""Everything edgeprune raises on purpose, each with the exit code the command line returns.

    EdgepruneError
     ├─ UsageError (2)           a flag, a folder that exists, a malformed report
     │   ├─ CalibrationError     calibration data that is missing or does not fit the model
     │   ├─ EvaluationError      evaluation data or function that does not fit
     │   └─ TargetError          a target that is not known
     ├─ ModelError (3)           a model that is invalid, or that cannot be worked on
     │   ├─ RuleError            an axis-relation rule that is malformed or does not fit its node
     │   └─ PassError            a pass whose requirement or promise does not hold
     ├─ BudgetError (4)          a budget that cannot be met; says what can be
     └─ BackendError (5)         a runtime or device that is missing or fails
         └─ ProfileError         a latency profile that is missing, invalid or does not cover a layer

Exit code 1 is kept for a gate that failed: that is a result, not an error.
"""

from __future__ import annotations


class EdgepruneError(Exception):
    """Base of all errors raised on purpose; its text is one sentence for the user."""

    exit_code = 2


class UsageError(EdgepruneError):
    """A flag, path or data file given by the user does not fit."""

    exit_code = 2


class CalibrationError(UsageError):
    """Calibration data is missing, or its names, shapes or values do not fit the model."""


class EvaluationError(UsageError):
    """Evaluation data or function does not fit the model."""


class TargetError(UsageError):
    """The target is not a known device."""


class ModelError(EdgepruneError):
    """The model is invalid or unsupported; the text names the node or tensor."""

    exit_code = 3


class RuleError(ModelError):
    """An axis-relation rule is malformed, or does not fit the node it is applied to."""


class PassError(ModelError):
    """A pass's requirement or promise does not hold; the text names the pass."""


class BudgetError(EdgepruneError):
    """The budget cannot be met; the text says what can be."""

    exit_code = 4


class BackendError(EdgepruneError):
    """A runtime or device is missing, or failed."""

    exit_code = 5


class ProfileError(BackendError):
    """A latency profile is missing, invalid, or does not cover a layer."""
