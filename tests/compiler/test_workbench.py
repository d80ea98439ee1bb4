"""What a workbench accepts where accuracy is the limit."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.compiler.workbench import LEARNABLE, Workbench
from edgeprune.search.solver import Candidate

CHOICE = Candidate(np.array([8]), ("fp32",), 1.0, 0.5)


@dataclass
class FakeBench:
    """A workbench whose choices lose so much before and after learning."""

    before: float
    after: float
    learned: list[Candidate] = field(default_factory=list)

    def accepts(self, limit: float) -> bool:
        parts = SimpleNamespace(
            drop=lambda candidate: self.before,
            builder=SimpleNamespace(recover=self.recover, build=lambda widths, formats: "learned"),
            evaluator=SimpleNamespace(drop=lambda run: self.after),
            harness=SimpleNamespace(runtime=SimpleNamespace(load=lambda model: SimpleNamespace(run=None))),
            progress=None,
        )
        return Workbench.is_acceptable(cast(Any, parts), CHOICE, limit)

    def recover(self, widths: Any, formats: Any, progress: Any) -> bool:
        self.learned.append(CHOICE)
        return self.after < self.before


@pytest.mark.parametrize(
    ("before", "after", "accepted", "learns"),
    [
        (0.9, 0.2, True, False),
        (1.5, 0.8, True, True),
        (1.5, 1.2, False, True),
        (1.5, 1.6, False, True),
        (LEARNABLE + 0.1, 0.5, False, False),
    ],
)
def test_a_choice_counts_as_what_it_loses_once_learned(
    before: float, after: float, accepted: bool, learns: bool
) -> None:
    bench = FakeBench(before, after)
    assert bench.accepts(1.0) == accepted
    assert bool(bench.learned) == learns
