"""Which candidates a session accepts if accuracy is the limit."""

from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.build import Learning, Trained
from edgeprune.compiler.cpu_session import CpuSession
from edgeprune.compiler.session import LEARNABLE, SHORT, CompileSession
from edgeprune.report import Tokens, Training
from edgeprune.search.solver import Candidate
from edgeprune.support import Progress

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
            builder=SimpleNamespace(learning=Learning(), recover=self.recover, build=lambda widths, formats: "learned"),
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


@dataclass
class TrainingSession:
    """A session whose trainings leave these shares of every drop, in order of the calls."""

    drop: float
    left: list[float]
    shares: list[float] = field(default_factory=list)
    full: list[Candidate] = field(default_factory=list)

    def parts(self) -> Any:
        learning = Learning(train=lambda *_: None)
        parts = SimpleNamespace(
            learns_to_accept=False,
            scores=SimpleNamespace(drop=lambda candidate: self.drop, run_of=lambda model: model),
            builder=SimpleNamespace(learning=learning, train=self.train),
            evaluator=SimpleNamespace(drop=lambda share: share * self.drop),
            progress=Progress(),
            recovered=self.recovered,
            _left=[],
        )
        parts._share_left = lambda *args: CompileSession._share_left(parts, *args)
        return parts

    def train(self, widths: Any, formats: Any, share: float) -> Any:
        self.shares.append(share)
        return SimpleNamespace(model=self.left.pop(0))

    def recovered(self, candidate: Candidate) -> Any:
        self.full.append(candidate)
        return self.left.pop(0)


def test_two_short_trainings_tell_what_all_candidates_recover() -> None:
    session = TrainingSession(4.0, [0.2, 0.4])
    parts = session.parts()
    assert CompileSession.is_acceptable(parts, CANDIDATE, 1.0)  # 4 * 0.2
    assert not CompileSession.is_acceptable(parts, CANDIDATE, 1.0)  # 4 * (0.2 + 0.4) / 2
    assert CompileSession.is_acceptable(parts, CANDIDATE, 1.3)
    assert session.shares == [SHORT, SHORT]
    session.drop = 0.5
    assert CompileSession.is_acceptable(parts, CANDIDATE, 1.0)


def test_a_disappointing_training_is_expected_of_all_others() -> None:
    session = TrainingSession(4.0, [0.2, 0.2, 0.5])
    parts = session.parts()
    assert CompileSession.is_acceptable(parts, CANDIDATE, 1.0)
    assert CompileSession.is_acceptable(parts, CANDIDATE, 1.0)
    assert not CompileSession.keeps(parts, CANDIDATE, 1.0)
    assert session.full == [CANDIDATE]
    assert not CompileSession.is_acceptable(parts, CANDIDATE, 1.0)
    session.drop, session.left = 0.9, []
    assert CompileSession.keeps(parts, CANDIDATE, 1.0)  # as built; nothing is trained for it


def test_a_session_with_other_notes_knows_what_was_trained() -> None:
    """A model with attention is delivered by a copy of its session, which says why its tokens stay."""
    trained = Trained(cast(Any, "trained"), Training({}, "all", 32, 8, 8, 10, 0.1, True, 0.0, ()))
    builder = SimpleNamespace(
        learning=Learning(train=lambda *_: None),
        after_training={CANDIDATE.key: trained},
        recover=lambda *_: True,
        build=lambda *_: trained.model,
    )
    scores = SimpleNamespace(accuracy=lambda candidate: SimpleNamespace(after=71.5), judge_learned=lambda *_: None)
    parts = dict.fromkeys(f.name for f in fields(CpuSession) if not f.name.startswith("_"))
    prices = SimpleNamespace(latency=SimpleNamespace(sizes=np.array([16])))
    parts |= {"builder": builder, "scores": scores, "prices": prices, "progress": Progress()}
    session = CpuSession(**cast(Any, parts))
    assert session.recovered(CANDIDATE) == "trained"
    found = replace(session, tokens=Tokens("none", reason="--tokens none")).training(CANDIDATE)
    assert found is not None
    assert found.before == 71.5
