"""What ``edgeprune targets`` and ``edgeprune predict`` print for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from edgeprune.costmodel import Prediction
    from edgeprune.devices import Profile


def print_targets(console: Console, profiles: Sequence[Profile]) -> None:
    """Print the known devices, where their latencies come from and how far off predictions are."""
    table = Table("target", "device", "latencies", "typical error", "power modes", box=None, pad_edge=False)
    for profile in profiles:
        error = "" if profile.error is None else f"{profile.error.median:.0%}"
        modes = ", ".join(mode.name for mode in profile.power_modes)
        table.add_row(profile.name, profile.title, profile.source, error, modes)
    console.print(table)


def print_prediction(console: Console, found: Prediction, costliest: int) -> None:
    """Print a predicted latency, its error, and the launches that take longest."""
    conditions = f"{found.target} ({found.power_mode}), {found.precision}"
    error = f"typical error {found.error:.0%}, nine of ten within {found.error_p90:.0%}"
    text = f"{found.latency_ms:.4g} ms predicted, not measured, on {conditions}: {error}"
    console.print(text, markup=False, style="bold")
    for sentence in found.outside:
        console.print(f"note: {sentence}", markup=False, style="yellow")
    table = Table(f"costliest of {found.launches} launches", box=None, pad_edge=False)
    for heading in ("precision", "time", "share", "bound by"):
        table.add_column(heading, justify="right", no_wrap=True)
    for launch in found.costliest(costliest):
        time, share = f"{launch.latency_us:.1f} us", f"{launch.share:.0%}"
        table.add_row(f"{launch.name} ({launch.kind})", launch.precision, time, share, launch.bound)
    console.print(table)
