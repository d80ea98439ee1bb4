"""Lowering to onnxruntime on a CPU: Q/DQ with U8S8 types, S8S8 on Arm, and forms that its kernels run faster.

In: a float model, the names of its INT8 nodes, and activation ranges.
Out: a graph that onnxruntime fuses into INT8 kernels.
May import: passes.quantize and below.
"""

from edgeprune.passes.x86.int8_nodes import CLIP_OPS, INT8_OPS, int8_eligible
from edgeprune.passes.x86.lower_x86 import lower_x86
from edgeprune.passes.x86.quantize_x86 import quantize_x86, values_to_quantize
from edgeprune.passes.x86.signed_activations import signed_activations
