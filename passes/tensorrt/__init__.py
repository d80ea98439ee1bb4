"""Lowering to TensorRT: explicit INT8 Q/DQ, FP16 casts, and the rules for which node may use which precision.

In: a float model, a precision per node, and activation ranges.
Out: one ONNX graph that every TensorRT version of the target builds as planned.
May import: graph and below.
"""

from edgeprune.passes.tensorrt.cast_fp16 import cast_fp16
from edgeprune.passes.tensorrt.fp16_rules import fp16_eligible
from edgeprune.passes.tensorrt.fuse_layer_norms import fuse_layer_norms
from edgeprune.passes.tensorrt.int8_nodes import MIN_CHANNELS, int8_eligible
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from edgeprune.passes.tensorrt.quantize_fp8 import fp8_eligible
from edgeprune.passes.tensorrt.quantize_tensorrt import quantize_tensorrt, values_to_quantize
from edgeprune.passes.tensorrt.versions import NEWEST, OLDEST, STRONGLY_TYPED, Release, release
