"""Scores and models of choices that do not depend on the budget, kept for the next compile of the same model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune import graph
from edgeprune.build import Builder
from edgeprune.calibration import ArrayCache, Arrays, Evaluator
from edgeprune.latency import TimingHarness
from edgeprune.search.problem import Candidate

LARGEST_BYTES = 64 << 20
"""Larger models are built again: keeping them would push everything else out of the cache."""


@dataclass(frozen=True, eq=False)
class ScoreCache:
    """Builds and scores choices, each once for every model, data and judge."""

    known: ArrayCache
    builder: Builder
    evaluator: Evaluator
    harness: TimingHarness

    def drop(self, candidate: Candidate) -> float:
        """Points that a choice loses, as built; scored again where it cannot be told whether the judge is the same."""

        def compute() -> Arrays:
            return {"drop": np.array(self.evaluator.drop(self.harness.runtime.load(self._build(candidate)).run))}

        if self.evaluator.identity is None:
            return float(compute()["drop"])
        settings = {**self._settings(candidate), "judge": self.evaluator.identity}
        return float(self.known.arrays("drop", settings, compute)["drop"])

    def model(self, candidate: Candidate) -> ir.Model:
        """The model of a choice."""
        if graph.weight_bytes(self.builder.dense) > LARGEST_BYTES:
            return self._build(candidate)

        def compute() -> Arrays:
            return {"model": np.frombuffer(graph.to_bytes(self._build(candidate)), np.uint8)}

        stored = self.known.arrays("model", self._settings(candidate), compute)["model"]
        return ir.from_proto(onnx.load_from_string(stored.tobytes()))

    def _build(self, candidate: Candidate) -> ir.Model:
        return self.builder.build(candidate.widths, candidate.formats)

    def _settings(self, candidate: Candidate) -> dict[str, object]:
        return {
            "widths": candidate.widths.tolist(),
            "formats": list(candidate.formats),
            "builder": self.builder.describe(),
        }
