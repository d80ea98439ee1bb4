"""A cache for scores and models of candidates that do not depend on the budget, for later compiles of a model."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune import graph
from edgeprune.build import ModelBuilder
from edgeprune.calibration import ArrayCache, Arrays, Evaluator, Run
from edgeprune.outputs import usefulness
from edgeprune.report import Accuracy
from edgeprune.search.problem import Candidate
from edgeprune.support import release_memory

LARGEST_BYTES = 64 << 20
"""Larger models are built again: they would fill the whole cache."""


@dataclass(frozen=True, eq=False)
class ScoreCache:
    """Builds and scores candidates, each only once for the same model, data and evaluator.

    Attributes:
        cache: scores and models that outlive the process.
        builder: builds candidates.
        evaluator: scores models.
        run_of: gives the function that runs a built model.
    """

    cache: ArrayCache
    builder: ModelBuilder
    evaluator: Evaluator
    run_of: Callable[[ir.Model], Run]
    _scored: dict[Hashable, Accuracy] = field(default_factory=dict, init=False, repr=False)

    def accuracy(self, candidate: Candidate, model: ir.Model | None = None) -> Accuracy:
        """Accuracy of a candidate as built, or of the given model of it; scored once in this process."""
        if candidate.key not in self._scored:
            run = self.run_of(self._build(candidate) if model is None else model)
            self._scored[candidate.key] = self.evaluator.accuracy(run)
            del run
            release_memory()
        return self._scored[candidate.key]

    def with_outputs(self, candidate: Candidate, model: ir.Model) -> Accuracy:
        """Accuracy of a candidate, with the agreement of each output of the given model of it."""
        scored = self.accuracy(candidate, model)
        return self.evaluator.with_outputs(scored, self.run_of(model)) if self.evaluator.beside else scored

    def judge_learned(self, candidate: Candidate, limit: float) -> None:
        """Take back the learned weights of a candidate that would be refused with them, and not without them.

        Args:
            candidate: with weights that were just learned.
            limit: most points that it may lose.
        """

        def is_refused(accuracy: Accuracy) -> bool:
            return accuracy.drop > limit or (not self.builder.data.is_random and bool(usefulness(accuracy)))

        self._scored.pop(candidate.key, None)
        if not is_refused(learned := self.accuracy(candidate)):
            return
        before = self.builder.before_learning[candidate.key][1]
        if not is_refused(built := self.evaluator.accuracy(self.run_of(before))):
            why = f"learned weights were left out: {built.metric} was {learned.after:.4g} with them"
            self.builder.unlearn(candidate.widths, candidate.formats, why)
            self._scored[candidate.key] = built

    def drop(self, candidate: Candidate) -> float:
        """Loss of accuracy of a candidate as built, in points; cached for later compiles with the same evaluator.

        Where weights were learned it is that of the last model that was scored, and not cached.
        """
        if self.evaluator.identity is None or self.builder.has_learned(candidate.widths):
            return self.accuracy(candidate).drop

        def compute() -> Arrays:
            return {"drop": np.array(self.accuracy(candidate).drop)}

        settings = {**self._settings(candidate), "evaluator": self.evaluator.identity}
        return float(self.cache.arrays("drop", settings, compute)["drop"])

    def is_within(self, candidate: Candidate, limit: float) -> bool:
        """Whether a candidate as built loses at most ``limit`` points; a few samples are enough to refuse it."""

        def compute() -> Arrays:
            if candidate.key not in self._scored:
                found = self.evaluator.accuracy(self.run_of(self._build(candidate)), limit)
                release_memory()
                if found.drop > limit and found.samples != self.evaluator.samples:
                    return {"within": np.array(False)}
                self._scored[candidate.key] = found
            return {"within": np.array(self.drop(candidate) <= limit)}

        if self.evaluator.identity is None or self.builder.has_learned(candidate.widths):
            return bool(compute()["within"])
        settings = {**self._settings(candidate), "evaluator": self.evaluator.identity, "limit": limit}
        return bool(self.cache.arrays("within", settings, compute)["within"])

    def model(self, candidate: Candidate) -> ir.Model:
        """The model of a candidate."""
        if graph.weight_bytes(self.builder.dense) > LARGEST_BYTES or self.builder.has_learned(candidate.widths):
            return self._build(candidate)

        def compute() -> Arrays:
            return {"model": np.frombuffer(graph.to_bytes(self._build(candidate)), np.uint8)}

        stored = self.cache.arrays("model", self._settings(candidate), compute)["model"]
        return ir.from_proto(onnx.load_from_string(stored.tobytes()))

    def _build(self, candidate: Candidate) -> ir.Model:
        return self.builder.build(candidate.widths, candidate.formats)

    def _settings(self, candidate: Candidate) -> dict[str, object]:
        return {
            "widths": candidate.widths.tolist(),
            "formats": list(candidate.formats),
            "builder": self.builder.describe(),
        }
