"""Limits of a gate on memory and energy: figures that are counted or bounded, not measured."""

from __future__ import annotations

from edgeprune.errors import UsageError
from edgeprune.report.model import Report
from edgeprune.report.verdicts import Check

_MB = 1e6


def check_memory(report: Report, limit_mb: float) -> Check:
    """The weights and the largest activations of the result, against megabytes.

    Raises:
        UsageError: the activations of the result were not counted.
    """
    size = report.sizes.result
    if size.activation_bytes is None:
        raise UsageError("the report has no memory of activations to check --max-memory-mb against")
    found_mb = (size.file_bytes + size.activation_bytes) / _MB
    detail = "counted: the file and the activations that live at once, without the runtime's own workspace"
    return Check("memory", f"{found_mb:.4g} MB", f"{limit_mb:g} MB", "fail" if found_mb > limit_mb else "pass", detail)


def check_energy(report: Report, limit_mj: float) -> Check:
    """The most energy that an inference can take within the power mode, against millijoules.

    A larger bound proves nothing, so beyond the limit the check is unsure.

    Raises:
        UsageError: the report has no such bound.
    """
    most = None if report.predicted is None else report.predicted.energy_mj_at_most
    if most is None:
        raise UsageError(
            "the report has no energy to check --max-energy-mj against: compile for a power mode that states its watts"
        )
    detail = "the power of the mode times the latency, an upper bound that was not measured"
    return Check(
        "energy of an inference, at most",
        f"{most:.4g} mJ",
        f"{limit_mj:g} mJ",
        "pass" if most <= limit_mj else "unsure",
        detail,
    )
