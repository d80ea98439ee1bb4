"""The uniform cut: shares, steps, axes that groups share."""

import numpy as np
import pytest

from edgeprune.dependency.groups import Ranking
from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.dependency.widths import TiedWidths
from edgeprune.errors import UsageError
from edgeprune.importance.uniform_cut import choose
from edgeprune.passes.prune.prune_channels import prune_channels
from tests.dependency.test_solve import attention_model
from tests.models import single, sizes


def chain(width: int) -> Analysis:
    return analyse(
        single(
            "g (float[1,3,4,4] x) => (float[1,4,4,4] y) { h = Conv(x, w1) y = Conv(h, w2) }",
            w1=(width, 3, 1, 1),
            w2=(4, width, 1, 1),
        )
    )


@pytest.mark.parametrize(
    ("width", "ratio", "step", "left"),
    [
        (64, 0.5, 1, 32),
        (64, 0.5, 16, 32),
        (48, 0.5, 16, 16),  # 24 lies between 16 and 32: the smaller
        (40, 0.5, 16, 16),
        (64, 0.3, 16, 48),
        (16, 0.5, 16, 8),  # shorter than two steps: half a step
        (6, 0.5, 1, 3),
        (2, 0.99, 1, 1),
        (64, 0.99, 16, 16),
        (64, 0.0, 16, 64),
    ],
)
def test_widths(width: int, ratio: float, step: int, left: int) -> None:
    analysis = chain(width)
    (group,) = analysis.groups
    assert len(choose(analysis, {}, ratio, step).get(group.id, range(width))) == left


def test_the_least_important_units_go() -> None:
    analysis = chain(6)
    (group,) = analysis.groups
    ranking = Ranking(np.array([4, 0, 5, 1, 2, 3]), np.arange(7.0))
    assert choose(analysis, {group.id: ranking}, 0.5)[group.id].tolist() == [1, 2, 3]


def test_of_the_factors_of_an_axis_one_is_cut_first() -> None:
    analysis = analyse(attention_model())  # two heads, of 4 and 6 dimensions
    cut = {analysis.group(g).kind: len(units) for g, units in choose(analysis, {}, 0.5).items()}
    assert cut == {"head": 1}
    shares = {analysis.group(g).size: len(units) for g, units in choose(analysis, {}, 0.4).items()}
    assert 2 not in shares  # one of two heads would be too much: the dimensions go instead
    assert shares == {4: 2, 6: 4}


@pytest.mark.parametrize(("ratio", "left"), [(0.0, {}), (0.2, {}), (0.3, {4: 2, 6: 3}), (0.9, {2: 1, 4: 2, 6: 3})])
def test_tied_groups_have_only_the_widths_that_they_may_have(ratio: float, left: dict[int, int]) -> None:
    analysis = analyse(attention_model())  # two heads, of 4 and 6 dimensions
    numbers = [next(i for i, g in enumerate(analysis.groups) if g.size == n) for n in (4, 6)]
    tied = TiedWidths(tuple(numbers), np.array([[2, 3], [4, 6]]))
    cut = choose(analysis, {}, ratio, tied=[tied])
    assert {analysis.group(g).size: len(units) for g, units in cut.items()} == left


def test_channels_within_groups_go_before_whole_groups() -> None:
    model = single(
        """g (float[1,3,4,4] x) => (float[1,4,4,4] y) {
            h = Conv(x, w1) r = Relu(h) i = Conv<group=3>(r, w2) z = Conv(i, w3)  y = Relu(z)
        }""",
        w1=(24, 3, 1, 1),
        w2=(24, 8, 1, 1),
        w3=(4, 24, 1, 1),
    )
    analysis = analyse(model)
    cut = choose(analysis, {}, 0.5)
    assert sorted((analysis.group(g).kind, len(units)) for g, units in cut.items()) == [("dim", 4), ("dim", 4)]
    pruned = prune_channels(model, analysis, cut)
    assert sizes(pruned)["w2"] == (12, 4, 1, 1)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 2.0])
def test_ratios_out_of_range(ratio: float) -> None:
    with pytest.raises(UsageError, match="expected a number from 0 to below 1"):
        choose(chain(6), {}, ratio)


def test_a_step_below_one() -> None:
    with pytest.raises(UsageError, match="a channel step of 0 is not positive"):
        choose(chain(6), {}, 0.5, 0)
