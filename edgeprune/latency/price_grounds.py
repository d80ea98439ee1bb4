"""On what ground a network on a GPU was priced, where the user should know it: published gains, overhead of kernels."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.costmodel import what_helps
from edgeprune.dependency import Widths
from edgeprune.devices import Profile
from edgeprune.latency.analytic_model import AnalyticModel, is_sparse
from edgeprune.latency.block_latency import Format


def overhead_advice(
    model: AnalyticModel, widths: Widths, formats: Sequence[Format], profile: Profile, power_mode: str | None
) -> list[str]:
    """What share of the latency is the overhead of kernels, and what helps; nothing if it is little.

    Args:
        model: of the network.
        widths: units of every group.
        formats: format of every block.
        profile: of the target.
        power_mode: one of its power modes; by default the fastest.
    """
    kernels = [model.kernel(b, widths) for b in range(len(formats))]
    precisions = [model.precision(b, f) for b, f in enumerate(formats)]
    return what_helps(kernels, precisions, profile, power_mode)


def sparse_ground(formats: Sequence[Format], profile: Profile, power_mode: str | None) -> list[str]:
    """On what ground blocks were made 2:4 without a measurement; nothing if none was.

    Args:
        formats: format of every block.
        profile: of the target.
        power_mode: one of its power modes; by default the fastest.
    """
    sparse = sum(is_sparse(f) for f in formats)
    if not sparse:
        return []
    gains = profile.published_sparse_gains
    if not gains:
        return [f"2:4 in {sparse} kernels is priced at no gain: none was measured or published for {profile.name}"]
    priced = ", ".join(f"{precision.upper()} {gain:g} times as fast" for precision, gain in gains.items())
    wide = profile.device(power_mode).sparse_channels
    return [
        f"2:4 in {sparse} kernels is priced from published gains ({priced} from {wide} channels on), not from a "
        "measurement; TensorRT decides when it builds the engine, and --sparsity none leaves it out"
    ]
