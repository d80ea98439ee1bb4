"""Which candidates a session accepts if accuracy is the limit."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.compiler.session import LEARNABLE, CompileSession
from edgeprune.search.solver import Candidate

CANDIDATE = Candidate(np.array([8]), ("fp32",), 1.0, 0.5)


@dataclass
class FakeSession:
    """A session whose candidates have these drops before and after learning."""

    before: float
    after: float
    learns: bool = True
    learned: list[Candidate] = field(default_factory=list)

    def accepts(self, limit: float) -> bool:
        parts = SimpleNamespace(
            learns_to_accept=self.learns,
            scores=SimpleNamespace(drop=lambda candidate: self.before, run_of=lambda model: None),
            builder=SimpleNamespace(recover=self.recover, build=lambda widths, formats: "learned"),
            evaluator=SimpleNamespace(drop=lambda run: self.after),
            progress=None,
        )
        return CompileSession.is_acceptable(cast(Any, parts), CANDIDATE, limit)

    def recover(self, widths: Any, formats: Any, progress: Any) -> bool:
        self.learned.append(CANDIDATE)
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
def test_a_candidate_is_accepted_by_its_drop_after_learning(
    before: float, after: float, accepted: bool, learns: bool
) -> None:
    session = FakeSession(before, after)
    assert session.accepts(1.0) == accepted
    assert bool(session.learned) == learns


def test_without_learning_the_drop_as_built_decides() -> None:
    session = FakeSession(1.5, 0.8, learns=False)
    assert not session.accepts(1.0)
    assert not session.learned
