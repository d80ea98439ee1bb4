"""Scores and models of candidates that do not depend on the budget, kept for the next compile of the same model."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune import graph
from edgeprune.build import Builder
from edgeprune.calibration import ArrayCache, Arrays, Evaluator, Run
from edgeprune.report import Accuracy
from edgeprune.search.problem import Candidate

LARGEST_BYTES = 64 << 20
"""Larger models are built again: keeping them would push everything else out of the cache."""


@dataclass(frozen=True, eq=False)
class ScoreCache:
    """Builds and scores candidates, each once for every model, data and evaluator.

    Attributes:
        known: scores and models that outlive the process.
        builder: builds candidates.
        evaluator: scores models.
        run_of: runs a built model.
    """

    known: ArrayCache
    builder: Builder
    evaluator: Evaluator
    run_of: Callable[[ir.Model], Run]
    _scored: dict[Hashable, Accuracy] = field(default_factory=dict, init=False, repr=False)

    def accuracy(self, candidate: Candidate, model: ir.Model | None = None) -> Accuracy:
        """How good a candidate is as built, or as the given model of it; scored once in this process."""
        if candidate.key not in self._scored:
            run = self.run_of(self._build(candidate) if model is None else model)
            self._scored[candidate.key] = self.evaluator.accuracy(run)
        return self._scored[candidate.key]

    def forget(self, candidate: Candidate) -> None:
        """Score a candidate again: it has other weights now."""
        self._scored.pop(candidate.key, None)

    def drop(self, candidate: Candidate) -> float:
        """Points that a candidate loses as built; kept for later compiles unless the evaluator may have changed."""

        def compute() -> Arrays:
            return {"drop": np.array(self.accuracy(candidate).drop)}

        if self.evaluator.identity is None:
            return float(compute()["drop"])
        settings = {**self._settings(candidate), "evaluator": self.evaluator.identity}
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
