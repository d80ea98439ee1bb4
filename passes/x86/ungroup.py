"""Write grouped convolutions of few channels as plain ones, whose weights between the groups are zeros.

onnxruntime's fast integer kernel for convolutions knows no groups (but for depthwise ones, which have a kernel of their
own): with groups it copies every patch and multiplies matrices group by group, some 40 ns a group and output position
before the first multiplication. The plain kernel does about 340 multiply-accumulates per nanosecond on a processor with
AVX512-VNNI, a quarter of that without VNNI: while a group is small, all its zeros cost less than its being a group.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, input_at, int_attribute, is_op, new_initializer

MOST_MACS = 8192
"""Multiply-accumulates of the plain convolution, per output position and group, up to which it is the faster one."""
SLOWER_WITHOUT_VNNI = 4

IN_STEP, OUT_STEP, LEAST_OUT = 4, 4, 16
"""Channels that the plain kernel takes: input and output channels in these steps, and no fewer outputs."""
LEAST_PATCHES = 4096
"""Output positions times positions of the kernel, up to which copying patches costs no more than avoiding it does."""


def patches(node: ir.Node, kernel: Sequence[int]) -> int:
    """Output positions of one sample times positions of the kernel; 0 for what needs no patches, or is not known."""
    dims = dim_keys(node.outputs[0]) or ()
    space = [d for d in dims[2:] if isinstance(d, int)]
    return math.prod((*space, *kernel)) if len(space) == len(kernel) and math.prod(kernel) > 1 else 0


def ungroup(graph: ir.Graph, nodes: Collection[str], *, vnni: bool = True) -> None:
    """Ungroup those of the named convolutions that are faster so on integers, in place."""
    for node in [n for n in graph if n.name in nodes and is_op(n, "Conv")]:
        groups, weight = int_attribute(node, "group", 1), constant(input_at(node, 1))
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
