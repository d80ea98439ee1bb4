"""Scores and models of choices that do not depend on the budget, kept for the next compile of the same model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune import graph
from edgeprune.build import Builder
from edgeprune.calibration import ArrayCache, Arrays, Judge
from edgeprune.latency import Stand
from edgeprune.search.problem import Choice

LARGEST_BYTES = 64 << 20
"""Larger models are built again: keeping them would push everything else out of the cache."""


@dataclass(frozen=True, eq=False)
class Remembered:
    """Builds and scores choices, each once for every model, data and judge."""

    known: ArrayCache
    builder: Builder
    judge: Judge
    stand: Stand

    def drop(self, choice: Choice) -> float:
        """Points that a choice loses, as built; scored again where it cannot be told whether the judge is the same."""

        def compute() -> Arrays:
            return {"drop": np.array(self.judge.drop(self.stand.runtime.load(self._build(choice)).run))}

        if self.judge.identity is None:
            return float(compute()["drop"])
        settings = {**self._settings(choice), "judge": self.judge.identity}
        return float(self.known.arrays("drop", settings, compute)["drop"])

    def model(self, choice: Choice) -> ir.Model:
        """The model of a choice."""
        if graph.weight_bytes(self.builder.dense) > LARGEST_BYTES:
            return self._build(choice)

        def compute() -> Arrays:
            return {"model": np.frombuffer(graph.to_bytes(self._build(choice)), np.uint8)}

        stored = self.known.arrays("model", self._settings(choice), compute)["model"]
        return ir.from_proto(onnx.load_from_string(stored.tobytes()))

    def _build(self, choice: Choice) -> ir.Model:
        return self.builder.build(choice.widths, choice.formats)

    def _settings(self, choice: Choice) -> dict[str, object]:
        return {
            "widths": choice.widths.tolist(),
            "formats": list(choice.formats),
            "builder": self.builder.describe(),
        }
