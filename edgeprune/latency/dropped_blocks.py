"""What becomes of the kernels of a residual branch that is dropped.

The layers of the branch go. A MatMul at its end is merged into another layer, so its kernel goes with its sum. Of a
convolution a factor and a shift for each channel stay, which costs a depthwise convolution
(`edgeprune.passes.prune.drop_branches`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeprune.costmodel import Kernel
from edgeprune.dependency import Branch, Group
from edgeprune.latency.analytic_model import Dropped


def dropped_blocks(
    kernels: Sequence[Kernel], groups: Sequence[Group], branches: Mapping[str, Branch]
) -> dict[int, Dropped]:
    """Number of a group -> what becomes of the kernels without its branch.

    Args:
        kernels: of the network, each with the names of its nodes.
        groups: all groups.
        branches: group id -> its branch.
    """
    found = {}
    for number, group in enumerate(groups):
        branch = branches.get(group.id)
        if branch is None:
            continue
        ended = [b for b, k in enumerate(kernels) if k.anchor in branch.nodes and k.nodes]
        scaled = frozenset(b for b in ended if not branch.before and branch.sum in kernels[b].nodes)
        gone = frozenset(b for b in ended if {*kernels[b].nodes} <= branch.nodes | {branch.sum})
        found[number] = Dropped(gone - scaled, scaled)
    return found
