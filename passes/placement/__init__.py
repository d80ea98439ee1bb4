"""Where Q/DQ pairs stand for runtimes that quantize the inputs of INT8 nodes, never their outputs: TensorRT, OpenVINO.

In: a graph and its INT8 nodes.
Out: which nodes may run in INT8; the values to quantize, the residuals among them, and sets of values with one scale.
May import: graph and below.
"""

from edgeprune.passes.placement.eligible_nodes import eligible_nodes
from edgeprune.passes.placement.operands import POOLS, Operands, operands, rank_of, weight_axis
from edgeprune.passes.placement.quantized_readers import quantized_readers
from edgeprune.passes.placement.residual_inputs import residual_inputs
from edgeprune.passes.placement.shared_scales import shared_scales
