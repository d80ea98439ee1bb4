"""All errors that edgeprune raises on purpose, with the exit codes of the command line.

    EdgepruneError
     ├─ UsageError (2)           a flag, a folder that exists, a malformed report
     │   ├─ CalibrationError     calibration data that is missing or does not fit the model
     │   ├─ EvaluationError      evaluation data or function that does not fit
     │   └─ TargetError          a target that is not known
     ├─ ModelError (3)           a model that is invalid or not supported
     │   ├─ RuleError            an axis-relation rule that is malformed or does not fit its node
     │   └─ PassError            a pass whose precondition or postcondition does not hold
     ├─ BudgetError (4)          a budget that cannot be met; the text says what is possible
     └─ BackendError (5)         a runtime or device that is missing or fails
         └─ ProfileError         a latency profile that is missing, invalid or does not cover a layer

Exit code 1 means that a gate failed: a result, not an error.
"""

from __future__ import annotations


class EdgepruneError(Exception):
    """Base of all errors raised on purpose; its text is one sentence for the user."""

    exit_code = 2


class UsageError(EdgepruneError):
    """A flag, path or data file of the user does not fit."""


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
    """An axis-relation rule is malformed, or does not fit its node."""


class PassError(ModelError):
    """A pass's precondition or postcondition does not hold; the text names the pass."""


class BudgetError(EdgepruneError):
    """The budget cannot be met; the text says what is possible."""

    exit_code = 4


class BackendError(EdgepruneError):
    """A runtime or device is missing, or failed."""

    exit_code = 5


class ProfileError(BackendError):
    """A latency profile is missing, invalid, or does not cover a layer."""
