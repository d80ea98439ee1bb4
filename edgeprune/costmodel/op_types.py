"""Operator types by what a GPU inference runtime does with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeprune.costmodel.blocks import POINTWISE_OPS

if TYPE_CHECKING:
    from edgeprune.costmodel.kernel import Kind

VIEWS = frozenset(
    {
        "Identity",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Dropout",
        "Cast",
        "CastLike",
        "QuantizeLinear",
        "DequantizeLinear",
    }
)
"""Nothing moves: another name, or a conversion that the next launch makes as it reads."""

PRODUCTS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Einsum",
        "Gemm",
        "MatMul",
        "LSTM",
        "GRU",
        "RNN",
    }
)

STRIDED = frozenset(
    {
        "Transpose",
        "Split",
        "Slice",
        "Gather",
        "Expand",
    }
)
"""Movement that can be a stride or an offset of the launch that reads it, or writes it."""

ACTIVATIONS = frozenset(
    {
        "Relu",
        "LeakyRelu",
        "Clip",
        "Sigmoid",
        "Tanh",
        "Elu",
        "Selu",
        "Celu",
        "HardSigmoid",
        "HardSwish",
        "Gelu",
        "Softplus",
        "ThresholdedRelu",
        "PRelu",
        "Swish",
        "Mish",
    }
)
"""Single nodes that a product kernel can apply to its result."""

REDUCTIONS = frozenset(
    {
        "Softmax",
        "LogSoftmax",
        "LayerNormalization",
        "RMSNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "LpNormalization",
        "MeanVarianceNormalization",
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceProd",
        "ReduceSumSquare",
        "ReduceLogSumExp",
        "CumSum",
    }
)
"""Fused with the pointwise work around them."""

SOFT_READERS = POINTWISE_OPS | REDUCTIONS | {"MatMul", "Gemm", "Einsum"}
"""Readers whose code is generated for the access pattern; a convolution wants its operand in its own layout."""

_POOLS = frozenset(
    {
        "MaxPool",
        "AveragePool",
        "LpPool",
    }
)
_OVER_MAPS = frozenset(
    {
        "GlobalAveragePool",
        "GlobalMaxPool",
        "TopK",
        "ArgMax",
        "ArgMin",
        "NonZero",
        "NonMaxSuppression",
        "LRN",
    }
)
_COPIES = frozenset(
    {
        "Concat",
        "Split",
        "Slice",
        "Transpose",
        "Resize",
        "Upsample",
        "Pad",
        "Gather",
        "GatherElements",
        "GatherND",
        "Expand",
        "Tile",
        "DepthToSpace",
        "SpaceToDepth",
        "GridSample",
        "ScatterND",
        "ScatterElements",
        "Trilu",
        "OneHot",
        "ReverseSequence",
        "RoiAlign",
        "Range",
        "Mod",
    }
)

ALONE: Mapping[str, Kind] = {
    **dict.fromkeys(_POOLS, "pool"),
    **dict.fromkeys(_OVER_MAPS, "reduce"),
    **dict.fromkeys(_COPIES, "copy"),
}
"""Operators that are a launch of their own."""
