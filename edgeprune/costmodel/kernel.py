"""One kernel of a GPU inference runtime, with the sizes from which the cost model predicts its latency.

The sizes are those of an implicit GEMM: ``groups`` independent matrix multiplications (rows, k) (k, n) with
k = cin / groups * taps and n = cout / groups. Activations that the kernel reads and writes are counted per channel, so
that the same record serves every pruned width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal[
    "conv", "depthwise", "matmul", "attention", "pointwise", "reduce", "pool", "copy", "concat", "nms", "unknown"
]  # fmt: skip
Epilogue = Literal["none", "simple", "complex"]
Family = Literal["convolutional", "transformer"]
"""Kinds of networks whose predictions err differently."""

CONTRACTIONS: frozenset[Kind] = frozenset({"conv", "matmul", "attention"})
"""Kinds that run on tensor cores where the device has them."""


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        anchor: name of its leading node.
        nodes: names of all its nodes.
        kind: kind of kernel.
        input, output: values whose channel axes have the lengths ``cin`` and ``cout``.
        groups, rows, cin, cout, taps: sizes of the matrix multiplication, see the module's docstring.
        read_positions, write_positions: elements per channel of ``input`` and ``output``.
        side_elements: elements per output channel of other operands that the epilogue reads (a residual).
        epilogue: ``complex`` if only a code generator can fuse it (SiLU, activation before addition).
        weighted: false for a MatMul of two activations.
        keys: number of keys of an attention.
        repeats: sequential launches (time steps of a recurrence, runs of the body of a Loop or Scan).
        quantized: whether its operands come from DequantizeLinear.
        image: whether it reads an input of the model, which is float32 and in another layout.
        reads, writes: computed values that pass between kernels.
    """

    anchor: str
    nodes: tuple[str, ...]
    kind: Kind
    input: str
    output: str
    groups: int
    rows: int
    cin: int
    cout: int
    taps: int
    read_positions: float
    write_positions: float
    side_elements: float = 0.0
    epilogue: Epilogue = "none"
    weighted: bool = True
    keys: int = 0
    repeats: int = 1
    quantized: bool = False
    image: bool = False
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates without the epilogue."""
        if self.kind == "depthwise":
            return self.rows * self.cout * self.taps * self.repeats
        if self.kind == "attention":
            return self.rows * self.keys * (self.cin + self.cout) * self.repeats
        if self.kind in CONTRACTIONS:
            return self.rows * self.taps * self.cin * self.cout // self.groups * self.repeats
        return 0

    def to_json(self) -> dict[str, object]:
        """Field name -> value."""
        return asdict(self)


def family_of(kernels: Iterable[tuple[Kernel, int]]) -> Family:
    """The family of a network: a transformer does most of its multiply-adds in MatMuls and attention.

    Args:
        kernels: kernels, and how often each occurs.
    """
    macs = {True: 0, False: 0}
    for kernel, count in kernels:
        macs[kernel.kind in ("matmul", "attention")] += kernel.macs * count
    return "transformer" if macs[True] > macs[False] else "convolutional"
