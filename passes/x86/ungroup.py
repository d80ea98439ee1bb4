"""Write grouped convolutions with few channels as ungrouped ones, whose weights between the groups are zeros.

onnxruntime's fast INT8 kernel for convolutions has no groups (depthwise convolutions have their own kernel). With
groups it copies every patch and multiplies matrices group by group, which costs about 40 ns per group and output
position before the first multiplication. The ungrouped kernel does about 340 multiply-accumulates per nanosecond on a
processor with AVX512-VNNI, and a quarter of that without VNNI. So for small groups the zeros cost less than the groups.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, input_at, is_op, new_initializer

MOST_MACS = 8192
"""Up to this many multiply-accumulates per output position and group the ungrouped convolution is faster."""
SLOWER_WITHOUT_VNNI = 4

IN_STEP, OUT_STEP, LEAST_OUT = 4, 4, 16
"""Steps of input and output channels that the ungrouped kernel takes, and its fewest output channels."""
LEAST_PATCHES = 4096
"""With fewer output positions times positions of the kernel, copying the patches does not cost more."""


def patches(node: ir.Node, kernel: Sequence[int]) -> int:
    """Output positions of one sample times positions of the kernel; 0 for 1x1 kernels and unknown sizes."""
    dims = dim_keys(node.outputs[0]) or ()
    space = [d for d in dims[2:] if isinstance(d, int)]
    return math.prod((*space, *kernel)) if len(space) == len(kernel) and math.prod(kernel) > 1 else 0


def ungroup(graph: ir.Graph, nodes: Collection[str], *, vnni: bool = True) -> None:
    """Ungroup the named convolutions that are faster without groups in INT8, in place."""
    for node in [n for n in graph if n.name in nodes and is_op(n, "Conv")]:
        groups, weight = node.attributes.get_int("group", 1), constant(input_at(node, 1))
        if groups == 1 or weight is None or (weight.shape[0] == groups and weight.shape[1] == 1):
            continue
        outputs, inputs = weight.shape[0], groups * weight.shape[1]
        macs = outputs // groups * int(np.prod(weight.shape[1:])) * groups
        if macs > MOST_MACS // (1 if vnni else SLOWER_WITHOUT_VNNI):
            continue
        if inputs % IN_STEP or outputs % OUT_STEP or outputs < LEAST_OUT:
            continue
        plain = np.zeros((outputs, inputs, *weight.shape[2:]), weight.dtype)
        for group in range(groups):
            mine = slice(group * outputs // groups, (group + 1) * outputs // groups)
            plain[mine, group * weight.shape[1] : (group + 1) * weight.shape[1]] = weight[mine]
        source = node.inputs[1]
        assert source is not None
        node.replace_input_with(1, new_initializer(graph, f"{source.name}_ungrouped", plain))
        node.attributes.add(ir.AttrInt64("group", 1))
