"""One launch of a GPU inference runtime: the record that the cost model prices.

A launch is described by the sizes that decide its time, in the notation of implicit matrix products: ``groups``
independent products (rows, k) (k, n) with k = cin / groups * taps and n = cout / groups. Activations that it reads and
writes are counted per channel, so that the same record prices every pruned width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Kind = Literal["conv", "depthwise", "matmul", "attention", "pointwise", "reduce", "pool", "copy", "concat", "unknown"]
Epilogue = Literal["none", "simple", "complex"]

CONTRACTIONS: frozenset[Kind] = frozenset({"conv", "matmul", "attention"})
"""Kinds that run on tensor cores where the device has them."""


@dataclass(frozen=True)
class Kernel:
    """One launch.

    ``anchor`` is the node that names it and ``nodes`` all of its nodes; ``input`` and ``output`` are the values whose
    channel axes are ``cin`` and ``cout`` long. ``read_positions`` and ``write_positions`` are elements per channel of
    those; ``side_elements`` are elements per output channel of other operands that an epilogue reads (a residual).
    ``epilogue`` is ``complex`` where only a code generator can attach it to the product (SiLU, activation before
    addition). ``weighted`` is false for a product of two activations. ``repeats`` counts sequential launches (time
    steps of a recurrence). ``quantized`` marks operands that come from DequantizeLinear. ``reads`` and ``writes`` are
    the computed values that pass between launches.
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
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the product, epilogue not counted."""
        if self.kind == "depthwise":
            return self.rows * self.cout * self.taps
        if self.kind == "attention":
            return self.rows * self.keys * (self.cin + self.cout)
        if self.kind in CONTRACTIONS:
            return self.rows * self.taps * self.cin * self.cout // self.groups * self.repeats
        return 0

    def to_json(self) -> dict[str, object]:
        """Field name -> value."""
        return asdict(self)
