"""Passes that remove: channels, branches, and two of four weights.

In: a model, its analysis, and what to keep.
Out: the smaller or 2:4 model, every shape checked.
May import: passes.x86 and below.
"""

from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.prune.sparsify import sparsify, sparsity_eligible
