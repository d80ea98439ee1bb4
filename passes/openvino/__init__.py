"""Lowering to OpenVINO's CPU plugin: Q/DQ that it fuses, and the type of the float layers.

In: a float model, the names of its INT8 nodes, activation ranges, and the float type.
Out: an ONNX graph that states every precision; onnxruntime computes it too, with float32 for bfloat16.
May import: passes.placement and below.
"""

from edgeprune.passes.openvino.float_precision import STATED_PRECISION, state_precision
from edgeprune.passes.openvino.int8_nodes import int8_eligible
from edgeprune.passes.openvino.lower_openvino import lower_openvino
from edgeprune.passes.openvino.quantize_openvino import quantize_openvino, values_to_quantize
