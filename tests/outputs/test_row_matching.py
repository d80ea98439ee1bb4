"""Rows in the order of a choice are compared as a set."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.outputs.choices import chosen_rows
from edgeprune.outputs.judging import Comparison
from edgeprune.outputs.output_spec import Outputs, OutputSpec
from edgeprune.outputs.row_matching import matched_rows
from tests.small_models import HEADER

RNG = np.random.default_rng(0)
SCORES = OutputSpec(("classes",), "class scores", "top1", "in a test")
BOXES = OutputSpec(("deltas",), "coordinates", "sqnr", "in a test")
OUTPUTS = Outputs(("classes", "deltas"), (SCORES, BOXES), ("classes", "deltas"))

TWO_STAGES = """
g (float[1,8,4] b, float[1,1,8] s, float[4,7] w) => (float[r,7] classes, float[1,8,4] boxes) <
    float[4,4] v = {1.0,2.0,3.0,5.0,1.0,7.0,2.0,2.0,8.0,1.0,4.0,9.0,0.0,3.0,6.0,1.0},
    int64 col = {2}, int64[1] most = {5}
> {
    boxes = MatMul(b, v)
    keep = NonMaxSuppression(boxes, s, most)
    rows = Gather<axis = 1>(keep, col)
    flat = Squeeze(boxes)
    chosen = Gather(flat, rows)
    classes = MatMul(chosen, v)
}
"""


def scores(got: list[np.ndarray], wanted: list[np.ndarray]) -> list[float]:
    comparison = Comparison(OUTPUTS)
    comparison.add(wanted, got)
    return [score.after for score in comparison.scores()]


def test_exchanged_rows_lose_nothing_and_lost_rows_do() -> None:
    wanted = [RNG.standard_normal((20, 7)), RNG.standard_normal((20, 24))]
    order = RNG.permutation(20)
    assert scores([x[order] for x in wanted], wanted) == [100, 120]
    fewer = scores([x[order][:15] for x in wanted], wanted)
    assert fewer[0] == 75
    assert fewer[1] < 8
    more = scores(wanted, [x[:15] for x in wanted])
    assert more[1] < 8


def test_rows_move_together() -> None:
    """A row whose classes fit one partner and whose boxes fit another is not split."""
    wanted = {"classes": RNG.standard_normal((6, 7)), "deltas": RNG.standard_normal((6, 24))}
    got = {"classes": wanted["classes"][::-1], "deltas": wanted["deltas"]}
    _, ordered = matched_rows(("classes", "deltas"), wanted, got)
    kept = [int(np.flatnonzero((wanted["deltas"] == row).all(axis=1))[0]) for row in ordered["deltas"]]
    np.testing.assert_array_equal(ordered["classes"], got["classes"][kept])


def test_two_choices_have_two_orders() -> None:
    wanted = {"proposals": RNG.standard_normal((9, 4)), "boxes": RNG.standard_normal((5, 4))}
    _, ordered = matched_rows(tuple(wanted), wanted, {name: rows[::-1] for name, rows in wanted.items()})
    for name, rows in wanted.items():
        np.testing.assert_array_equal(ordered[name], rows)
    more = {"proposals": wanted["proposals"], "boxes": RNG.standard_normal((9, 4))}
    whole, _ = matched_rows(("boxes", "proposals"), wanted, more)
    assert [len(whole[name]) for name in ("boxes", "proposals")] == [9, 9]
    np.testing.assert_array_equal(whole["proposals"], wanted["proposals"])


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (0, 0)])
def test_a_sample_may_have_no_rows(before: int, after: int) -> None:
    one, other = ({"boxes": np.ones((rows, 4)), "labels": np.zeros(rows, np.int64)} for rows in (before, after))
    results = matched_rows(("boxes", "labels"), one, other)
    assert [(len(found["boxes"]), len(found["labels"])) for found in results] == 2 * [2 * (max(before, after),)]
    assert not (results[0]["labels"] == results[1]["labels"]).any()  # a lost row of class 0 is no agreement
    assert not (results[0]["boxes"] == results[1]["boxes"]).any()


def test_what_is_not_finite_does_not_decide() -> None:
    wanted = {"boxes": np.array([[1.0, np.inf], [2.0, np.nan], [3.0, -np.inf]])}
    _, ordered = matched_rows(("boxes",), wanted, {"boxes": wanted["boxes"][::-1]})
    np.testing.assert_array_equal(ordered["boxes"], wanted["boxes"])


def test_only_outputs_of_what_was_chosen_have_such_rows() -> None:
    model = ir.from_onnx_text(f"{HEADER}\n{TWO_STAGES}")
    assert chosen_rows(model) == ("classes",)
