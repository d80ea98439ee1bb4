"""What came out of a compile for a CPU."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.build import Builder
from edgeprune.latency import Format, Latency, Network
from edgeprune.report import Search
from edgeprune.search import Candidate, Problem
from edgeprune.timing import Measurement


@dataclass(frozen=True, eq=False)
class Compiled:
    """A network within its budget, and what it was chosen and measured against.

    Attributes:
        model: the result.
        candidate: its widths and formats; ``latency_us`` is what was predicted before it was measured.
        network: blocks and analysis that the choice refers to.
        builder: what built it.
        latency: the latency model.
        problem: the losses that were weighed.
        measured: original, result and unpruned variants, in one run.
        variants: the unpruned variants.
        formats: the formats of the variants.
        search: how the choice was found; None where no latency was asked for.
    """

    model: ir.Model
    candidate: Candidate
    network: Network
    builder: Builder
    latency: Latency
    problem: Problem
    measured: dict[str, Measurement]
    variants: dict[str, ir.Model]
    formats: dict[str, tuple[Format, ...]]
    search: Search | None = None

    @property
    def baseline_us(self) -> float:
        """Predicted time of the dense float network."""
        return self.variant_choice("fp32").latency_us

    def variant_choice(self, name: str) -> Candidate:
        """The choice that an unpruned variant is; the original counts as float."""
        sizes = self.network.sizes
        formats = self.formats.get(name, self.formats["fp32"])
        return Candidate(sizes, formats, self.latency.total_us(sizes, formats), 0.0)
