"""Runs models in onnxruntime: whether two compute the same, and at which sizes a model with open axes runs.

In: one or two models.
Out: a verdict; input shapes at which the model runs.
May import: graph and below.
"""

from edgeprune.passes.verify.equality import verify_equal
from edgeprune.passes.verify.input_sizes import InputSizes, check_sizes, settle_sizes, spelled
from edgeprune.passes.verify.operands import check_operands
from edgeprune.passes.verify.running_sizes import running_sizes
