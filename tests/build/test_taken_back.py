from __future__ import annotations

import numpy as np

from edgeprune.build.taken_back import SINGLE, levers, single

SIZES = np.array([8, 8, 8])
WIDTHS = np.array([4, 8, 2])
FORMATS = ("int8", "fp16", "int8", "fp16+2:4")


def test_each_lever_is_taken_back_everywhere():
    found = {variant.name: variant for variant in levers(WIDTHS, FORMATS, SIZES, "fp16")}
    assert list(found) == ["pruning", "INT8", "2:4"]
    assert found["pruning"].widths.tolist() == [8, 8, 8]
    assert found["pruning"].formats == FORMATS
    assert found["INT8"].formats == ("fp16", "fp16", "fp16", "fp16+2:4")
    assert found["2:4"].formats == ("int8", "fp16", "int8", "fp16")
    assert list(levers(SIZES, ("fp16",) * 4, SIZES, "fp16")) == []


def test_one_group_and_one_layer_at_a_time():
    losses = np.array([0.1, 9.0, 0.3]), np.array([0.2, 9.0, 0.1, 0.0])
    found = list(single(WIDTHS, FORMATS, SIZES, "fp16", *losses, (["a", "b", "c"], ["k", "l", "m", "n"])))
    assert [(v.name, v.kind) for v in found] == [("c", "group"), ("a", "group"), ("k", "layer"), ("m", "layer")]
    assert found[0].widths.tolist() == [4, 8, 8]
    assert found[2].formats == ("fp16", "fp16", "int8", "fp16+2:4")
    many = np.ones(20)
    cut = list(single(many * 1, ("fp16",), many * 2, "fp16", many, np.zeros(1), ([str(k) for k in range(20)], ["x"])))
    assert len(cut) == SINGLE
