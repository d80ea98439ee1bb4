"""Canonicalization: one form of every model for the analysis, the search and the other passes.

In: a model as exported.
Out: the canonical model: opset 13 or newer, constants folded, BatchNormalization folded, one form of each idiom.
May import: passes.layout, passes.verify, graph and below.
"""

from edgeprune.passes.canonicalize.fold_batchnorm import FOLDED_SCALE
from edgeprune.passes.canonicalize.pipeline import canonicalize, without_functions
from edgeprune.passes.canonicalize.shared_weights import copied_vectors
from edgeprune.passes.canonicalize.twin_layers import twin_nodes, twin_values
