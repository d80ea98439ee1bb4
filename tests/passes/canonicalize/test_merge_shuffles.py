import numpy as np
import pytest

from edgeprune.graph import model_io as graph
from edgeprune.passes.canonicalize.merge_shuffles import merge_shuffles
from edgeprune.testing.oracle import feeds_for, parse, run, verify

TEXT = """g (float[1,3,4,4] x) => (float[1,4,4,4] y) <int64[5] s = {1, 2, 3, 4, 4}, int64[4] t = {1, 6, 4, 4}> {
    h = Conv(x, w1)
    a = Reshape(h, s)
    b = Transpose<perm=[PERM]>(a)
    c = Reshape(b, t)
    y = Conv(c, w2)
}"""


@pytest.mark.parametrize(("perm", "merged"), [("0,2,1,3,4", True), ("0,2,1,4,3", False)])
def test_a_shuffle_of_channels_becomes_one_gather(perm: str, merged: bool) -> None:
    model = parse(TEXT.replace("PERM", perm), w1=(6, 3, 1, 1), w2=(4, 6, 1, 1))
    ops = [node.op_type for node in model.graph]
    assert ("Gather" in ops) == merged
    assert ("Transpose" in ops) != merged
    if merged:
        (gather,) = [node for node in model.graph if node.op_type == "Gather"]
        assert gather.inputs[1].const_value.numpy().tolist() == [0, 3, 1, 4, 2, 5]
        assert [g.size for g in verify(model).groups] == [6]


def test_nothing_changes_but_the_form() -> None:
    model = parse(TEXT.replace("PERM", "0,2,1,3,4"), w1=(6, 3, 1, 1), w2=(4, 6, 1, 1))
    again = graph.clone(model)
    assert merge_shuffles(again) == 0
    feeds = feeds_for(model, 0)
    np.testing.assert_array_equal(run(model, feeds)[0], run(again, feeds)[0])
