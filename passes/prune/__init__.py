"""Passes that remove channels, residual branches, and two of four weights (2:4 sparsity).

In: a model, its analysis, and the units to keep.
Out: the smaller or 2:4 sparse model, with every shape checked.
May import: passes.x86 and below.
"""

from edgeprune.passes.prune.drop_branches import merge_branches, shift_behind
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.prune.sparsify import sparsify, sparsity_eligible
from edgeprune.passes.prune.verify_cut import masked, try_cut, verify_cut
