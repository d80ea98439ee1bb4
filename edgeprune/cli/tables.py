"""Tables of ``edgeprune targets`` and ``edgeprune predict`` for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.report import print_notes, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from edgeprune.costmodel import Prediction
    from edgeprune.devices import Profile


def print_targets(console: Console, profiles: Sequence[Profile]) -> None:
    """Print the known devices, the source of their latencies, and the typical error of predictions."""
    rows = []
    for profile in profiles:
        error = "" if profile.error is None else f"{profile.error.median:.0%}"
        if profile.error is not None and len(known := profile.error.families) > 1:
            parts = [f"{name} {of['median']:.0%}" for name, of in known.items()]
            error += f" ({', '.join(parts)})"
        modes = ", ".join(mode.name for mode in profile.power_modes)
        rows.append((profile.name, profile.title, profile.source, error, modes))
    print_table(console, ("target", "device", "latencies", "typical error", "power modes"), rows)


def print_prediction(console: Console, found: Prediction, shown: int) -> None:
    """Print a predicted latency, its error, and the slowest kernels."""
    conditions = f"{found.target} ({found.power_mode}), {found.precision}"
    error = f"typical error {found.error:.0%}, nine of ten within {found.error_p90:.0%}"
    text = f"{found.latency_ms:.4g} ms predicted, not measured, on {conditions}: {error}"
    console.print(text, markup=False, style="bold")
    if (most := found.energy_mj_at_most) is not None:
        console.print(f"at most {most:.4g} mJ for an inference: the power of the mode times the latency", markup=False)
    print_notes(console, (*found.advice, *found.outside))
    header = (f"slowest of {found.kernel_count} kernels", "precision", "time", "share", "bound by")
    rows = [
        (f"{k.name} ({k.kind})", k.precision, f"{k.latency_us:.1f} us", f"{k.share:.0%}", k.bound)
        for k in found.costliest(shown)
    ]
    print_table(console, header, rows, align_right=True)
