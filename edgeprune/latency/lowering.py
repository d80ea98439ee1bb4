"""How a network is lowered to a runtime of a CPU: the formats of its blocks, and the model in any of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from edgeprune.costmodel import Block
from edgeprune.graph import Refused, is_op
from edgeprune.latency import formats as forms
from edgeprune.latency.block_latency import Format
from edgeprune.passes import openvino, x86

Ranges = Mapping[str, tuple[float, float]]
Int8Nodes = forms.Int8Nodes


@dataclass(frozen=True)
class Lowering:
    """A runtime's formats and the graph that it takes.

    Attributes:
        runtime: its name.
        float_format: format of the blocks that are not in INT8.
        form: version of the lowering: cached times of another version are not used.
        int8_eligible: for every node of a model, whether it can run in INT8, or why not.
        int8_nodes: for every block: format -> names of the INT8 nodes.
        values_to_quantize: names of the activations that need a range if the named nodes are in INT8.
        lowered: a float model with the named nodes in INT8, in the form that the runtime takes.
        int8_name: what INT8 is called where its form matters.
    """

    runtime: str
    float_format: Format
    form: str
    int8_eligible: Callable[[ir.Model], dict[str, bool | Refused]]
    int8_nodes: Callable[[ir.Model, Sequence[Block]], tuple[Int8Nodes, ...]]
    values_to_quantize: Callable[[ir.Model, Collection[str]], list[str]]
    lowered: Callable[[ir.Model, Collection[str], Ranges], ir.Model]
    int8_name: Format = forms.INT8

    def name_of(self, fmt: Format) -> Format:
        """A format as profiles name it."""
        return fmt.replace(forms.INT8, self.int8_name)


def _lowered_x86(model: ir.Model, int8: Collection[str], ranges: Ranges) -> ir.Model:
    model = x86.lower_x86(model, int8)
    return x86.quantize_x86(model, int8, ranges) if int8 else model


X86 = Lowering(
    "onnxruntime", forms.FLOAT, "7", x86.int8_eligible, forms.int8_nodes, x86.values_to_quantize, _lowered_x86
)
"""For onnxruntime on x86."""

ARM = replace(
    X86,
    form=f"{X86.form} signed",
    int8_name=forms.INT8_ARM,
    lowered=lambda model, int8, ranges: x86.signed_activations(_lowered_x86(model, int8, ranges)),
)
"""For onnxruntime on Arm: the same formats with signed activations, as ``int8_arm``."""


def onnxruntime_lowering(features: Collection[str]) -> Lowering:
    """For onnxruntime on a processor with these instruction set extensions, as Linux spells them."""
    return ARM if "asimd" in features else X86


_MOVES = ("AveragePool", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Reshape", "Resize", "Slice", "Split",
          "Squeeze", "Transpose", "Unsqueeze")  # fmt: skip


def openvino_lowering(float_format: Format) -> Lowering:
    """For OpenVINO, with the float layers in ``fp32``, ``bf16`` or ``fp16``.

    A block whose node only moves values has a format ``int8`` without INT8 nodes: between INT8 blocks OpenVINO moves
    the quantized values.
    """

    def int8_nodes(model: ir.Model, blocks: Sequence[Block]) -> tuple[Int8Nodes, ...]:
        eligible, nodes = openvino.int8_eligible(model), {str(n.name): n for n in model.graph}
        found = []
        for block in blocks:
            own = frozenset(n for n in block.nodes if eligible[n])
            moves = is_op(nodes[block.anchor], *_MOVES)
            found.append({float_format: frozenset[str]()} | ({forms.INT8: own} if own or moves else {}))
        return tuple(found)

    def lowered(model: ir.Model, int8: Collection[str], ranges: Ranges) -> ir.Model:
        return openvino.lower_openvino(model, int8, ranges, float_precision=float_format)

    return Lowering(
        "openvino",
        float_format,
        f"openvino 3 {float_format}",
        openvino.int8_eligible,
        int8_nodes,
        openvino.values_to_quantize,
        lowered,
    )
