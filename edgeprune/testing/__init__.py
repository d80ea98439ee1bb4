"""Public: the masked-equivalence oracle and random graphs, to check a rule or a pass in onnxruntime.

In: a model, or a seed.
Out: the largest error between the pruned model and the masked dense one; random models.
May import: passes.prune and below.
"""

from edgeprune.passes.prune import masked
from edgeprune.testing.graph_builder import Builder
from edgeprune.testing.oracle import canonical, error, exact_error, feeds_for, parse, random_cut, run, verify
from edgeprune.testing.random_graph import random_model
