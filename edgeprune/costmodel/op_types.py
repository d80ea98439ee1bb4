"""Operator types by what a GPU inference runtime does with them."""

from __future__ import annotations

from collections.abc import Mapping

from edgeprune.costmodel.blocks import POINTWISE_OPS
from edgeprune.costmodel.kernel import Kind
from edgeprune.graph import VIEWS

NO_KERNELS = frozenset({*VIEWS, "Cast", "CastLike", "DequantizeLinear", "Dropout", "Identity", "QuantizeLinear"})
"""These copy nothing: they are another name, or a conversion that the next kernel does when it reads."""

CONTRACTION_OPS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})

STRIDED = frozenset({"Transpose", "Split", "Slice", "Gather", "Expand"})
"""Movement that can be a stride or an offset of the kernel that reads or writes the data."""

ACTIVATIONS = frozenset({
    "Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish", "Gelu",
    "Softplus", "ThresholdedRelu", "PRelu", "Swish", "Mish",
})  # fmt: skip
"""Single nodes that the kernel of a convolution or MatMul can apply to its result."""

GENERATED = frozenset({"HardSwish", "Swish", "Mish", "Gelu", "Softplus"})
"""Activations that TensorRT builds of several pointwise operators: no precompiled convolution has them, and they are a
kernel of their own (like SiLU as Sigmoid and Mul). The code generated for a MatMul takes them."""

REDUCTIONS = frozenset({
    "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "InstanceNormalization",
    "GroupNormalization", "LpNormalization", "MeanVarianceNormalization", "ReduceMean", "ReduceSum", "ReduceMax",
    "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare", "ReduceLogSumExp", "CumSum",
})  # fmt: skip
"""The runtime fuses these with the pointwise nodes around them."""

SOFT_READERS = POINTWISE_OPS | REDUCTIONS | {"MatMul", "Gemm", "Einsum"}
"""Readers whose code is generated for any access pattern; a convolution needs its operand in its own layout."""

NMS_PLUGINS = frozenset({"EfficientNMS_TRT", "EfficientNMS_ONNX_TRT"})
"""Plugins of TensorRT that are priced from published times; any other plugin is not priced."""

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_OVER_MAPS = frozenset({
    "GlobalAveragePool", "GlobalMaxPool", "TopK", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression", "LRN",
})  # fmt: skip
_COPIES = frozenset({
    "Concat", "Split", "Slice", "Transpose", "Resize", "Upsample", "Pad", "Gather", "GatherElements", "GatherND",
    "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "GridSample", "ScatterND", "ScatterElements", "Trilu",
    "OneHot", "ReverseSequence", "RoiAlign", "Range", "Mod",
})  # fmt: skip

ALONE: Mapping[str, Kind] = {
    **dict.fromkeys(_POOLS, "pool"),
    **dict.fromkeys(_OVER_MAPS, "reduce"),
    **dict.fromkeys(_COPIES, "copy"),
}
"""Operators that are a kernel of their own."""
