"""How a rule is tested: a small graph around its operator, the groups it should have, and the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from edgeprune.testing.oracle import verify
from tests.models import single


@dataclass(frozen=True)
class Case:
    """A graph ``x -> h = Conv(x, w1) -> body -> y``, and the sizes of the groups that the body leaves, in any order.

    ``body`` reads ``h`` (1 x ``channels`` x 4 x 4) and defines ``z`` of ``out`` channels, which a convolution reads.
    """

    name: str
    body: str
    groups: tuple[int, ...]
    channels: int = 6
    out: int = 6
    constants: str = ""
    weights: dict[str, Sequence[int]] = field(default_factory=dict)
    opset: int = 17


def check(case: Case) -> None:
    """Hold the case's groups and the oracle."""
    text = f"""g (float[1,3,4,4] x) => (float[?,?,?,?] y) {f"<{case.constants}>" if case.constants else ""} {{
        h = Conv(x, w1, b1)
        {case.body}
        y = Conv(z, w2)
    }}"""
    weights = {"w1": (case.channels, 3, 1, 1), "b1": (case.channels,), "w2": (4, case.out, 1, 1), **case.weights}
    analysis = verify(single(text, case.opset, **weights))
    assert sorted(g.size for g in analysis.groups) == sorted(case.groups), [(g.id, g.size) for g in analysis.groups]


def cases(*given: Case) -> pytest.MarkDecorator:
    """Run a test once a case."""
    return pytest.mark.parametrize("case", given, ids=[c.name for c in given])
