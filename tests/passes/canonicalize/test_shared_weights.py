import itertools
import re

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.dependency.solve import analyse
from edgeprune.graph import model_io
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.canonicalize.shared_weights import MAX_BYTES, share_weights
from edgeprune.passes.canonicalize.twin_layers import twin_nodes, twin_values
from edgeprune.testing.oracle import verify
from tests.models import single
from tests.passes.models import parse, random

TEXT = """g (float[1,WIDTH,2,2] x) => (float[1,4,2,2] y) {
    h = Conv(x, w1, b)
    i = Conv(h, w2, b)
    y = Conv(i, w3)
}"""

TOWER = """
    {0}1 = Conv({0}, w1, v)
    {0}2 = Relu({0}1)
    {0}3 = Conv({0}2, w2, v)
    {0}4 = Mul({0}3, s)
    {0}5 = Conv({0}4, w3)
"""
WEIGHTS = {
    **{"w1": random(6, 3, 1, 1), "w2": random(6, 6, 1, 1, seed=1), "w3": random(4, 6, 1, 1, seed=2)},
    **{"v": random(6, seed=3), "s": random(6, 1, 1, seed=4)},
}


def pair(tower: str = TOWER, second: str | None = None, **others: np.ndarray) -> ir.Model:
    """The distance of two pictures behind the tower that is called on each, as exported."""
    calls = tower.format("a") + (second or tower).format("b")
    text = f"g (float[1,3,4,4] a, float[1,3,4,4] b) => (float[1,4,4,4] y) {{ {calls} y = Sub(a5, b5) }}"
    return parse(text, **{k: v for k, v in {**WEIGHTS, **others}.items() if re.search(rf"\b{k}\b", calls)})


def read_by(model: ir.Model, op: str) -> list[tuple[str, ...]]:
    """For every node of this operator, the initializers that it reads."""
    return [
        tuple(str(v.name) for v in node.inputs if v is not None and v.is_initializer())
        for node in model.graph
        if node.op_type == op
    ]


def test_a_shared_bias_ties_no_layers() -> None:
    model = single(TEXT.replace("WIDTH", "3"), w1=(6, 3, 1, 1), w2=(6, 6, 1, 1), w3=(4, 6, 1, 1), b=(6,))
    assert [g.size for g in verify(model).groups] == [6, 6]
    assert share_weights(model) == 0


def test_large_weights_stay_shared_and_tie_their_layers() -> None:
    width = 136
    text = """g (float[1,136,2,2] x) => (float[1,4,2,2] y) {
        p = Conv(x, w0)
        h = Conv(p, w)
        r = Relu(h)
        i = Conv(r, w)
        y = Conv(i, w3)
    }"""
    model = single(text, w0=(width, width, 1, 1), w=(width, width, 1, 1), w3=(4, width, 1, 1))
    assert width * width * 4 > MAX_BYTES
    assert len(model.graph.initializers["w"].uses()) == 2
    assert [g.size for g in analyse(model).groups] == [width]
    verify(model)


def test_a_network_called_twice_has_one_set_of_weights_and_of_vectors() -> None:
    model = canonicalize(pair())
    convolutions = read_by(model, "Conv")
    assert convolutions[:3] == convolutions[3:]
    assert convolutions[0][1] != convolutions[1][1]  # the bias of the two layers was one vector for no reason
    assert [g.size for g in verify(model).groups] == [6, 6]


def test_values_of_two_calls_are_twins() -> None:
    twins = twin_values(canonicalize(pair()))
    assert twins["a"] == twins["b"] == {"a", "b"}
    assert twins["a2"] == {"a2", "b2"}
    assert {len(names) for names in twin_nodes(canonicalize(pair())).values()} == {2}
    assert "y" not in twins
    assert (
        twin_values(single(TEXT.replace("WIDTH", "3"), w1=(6, 3, 1, 1), w2=(6, 6, 1, 1), w3=(4, 6, 1, 1), b=(6,))) == {}
    )


def test_copies_of_a_shared_weight_become_one() -> None:
    second = TOWER.replace("w1", "w1c").replace("w2", "w2c").replace(", v)", ", vc)")
    model = pair(second=second, **{f"{name}c": WEIGHTS[name].copy() for name in ("w1", "w2", "v")})
    result = canonicalize(model)
    assert read_by(result, "Conv")[:3] == read_by(result, "Conv")[3:]
    assert [g.size for g in verify(result).groups] == [6, 6]


def test_equal_weights_one_behind_the_other_are_two() -> None:
    model = single(TEXT.replace("WIDTH", "6"), w1=(6, 6, 1, 1), w2=(6, 6, 1, 1), w3=(4, 6, 1, 1), b=(6,))
    model.graph.initializers["w2"].const_value = ir.Tensor(model.graph.initializers["w1"].const_value.numpy())
    assert [g.size for g in verify(canonicalize(model)).groups] == [6, 6]


def test_a_filter_that_is_the_same_for_all_channels_ties_nothing() -> None:
    text = """g (float[1,3,6,6] x) => (float[1,4,2,2] y) {
        h = Conv(x, w1)
        i = Conv<group=6>(h, blur)
        j = Conv(i, w2)
        k = Conv<group=6>(j, blur)
        y = Conv(k, w3)
    }"""
    model = single(text, w1=(6, 3, 1, 1), w2=(6, 6, 1, 1), w3=(4, 6, 1, 1), blur=(6, 1, 3, 3))
    model.graph.initializers["blur"].const_value = ir.Tensor(np.full((6, 1, 3, 3), 1 / 9, np.float32))
    assert [g.size for g in verify(canonicalize(model)).groups] == [6, 6]


NORMALIZED = """
    {0}1 = Conv({0}, w1)
    {0}2 = BatchNormalization({0}1, gainG, shiftG, meanG, varG)
    {0}3 = Relu({0}2)
    {0}5 = Conv({0}3, w3)
"""


@pytest.mark.parametrize("own", [False, True])
def test_a_normalization_is_folded_into_a_shared_weight_if_all_its_readers_have_it(own: bool) -> None:
    first, second = NORMALIZED.replace("G", "1"), NORMALIZED.replace("G", "2" if own else "1")
    vectors = {f"{p}{k}": random(6, seed=k) for p in ("gain", "shift", "mean") for k in (1, 2)}
    variances = {f"var{k}": np.linspace(0.5, k, 6).astype(np.float32) for k in (1, 2)}
    model = pair(first, second, **vectors, **variances)
    result = canonicalize(model)
    weights = [names[0] for names in read_by(result, "Conv")]
    assert weights[:2] == weights[2:]
    assert len(read_by(result, "BatchNormalization")) == 2 * own
    assert [g.size for g in verify(result).groups] == [6]


def test_a_scale_of_each_map_is_not_folded_into_a_shared_head() -> None:
    """As in FCOS: one head on several maps, whose boxes are scaled map by map."""
    model = pair(TOWER, TOWER.replace("s)", "t)"), t=random(6, 1, 1, seed=5))
    result = canonicalize(model)
    assert [n[0] for n in read_by(result, "Conv")[:3]] == [n[0] for n in read_by(result, "Conv")[3:]]
    verify(result)


@settings(max_examples=20, deadline=None)
@given(
    widths=st.lists(st.integers(2, 6), min_size=2, max_size=4),
    calls=st.integers(2, 3),
    activation=st.sampled_from(["Relu", "Sigmoid", "Identity"]),
    bias=st.booleans(),
    apart=st.booleans(),
)
def test_any_number_of_layers_is_shared_by_any_number_of_calls(
    widths: list[int], calls: int, activation: str, bias: bool, apart: bool
) -> None:
    sizes = [3, *widths, 4]
    body, shapes = "", {}
    for k, (before, after) in enumerate(itertools.pairwise(sizes)):
        shapes[f"w{k}"] = (after, before, 1, 1)
        shapes[f"v{k}"] = (after,)
        for c in range(calls):
            source = f"x{c}" if k == 0 else f"h{c}_{k}"
            body += f"c{c}_{k} = Conv({source}, w{k}{f', v{k}' if bias else ''})\n"
            body += f"h{c}_{k + 1} = {activation}(c{c}_{k})\n"
    if apart:  # one more reader of what the first call computes
        shapes["own"] = (4, sizes[-2], 1, 1)
        body += f"z = Conv(h0_{len(sizes) - 2}, own)\n"
    ends = [f"h{c}_{len(sizes) - 1}" for c in range(calls)] + ["z"] * apart
    inputs = ", ".join(f"float[1,3,2,2] x{c}" for c in range(calls))
    model = single(f"g ({inputs}) => (float[1,4,2,2] y) {{ {body} y = Sum({', '.join(ends)}) }}", **shapes)
    result = canonicalize(model)
    assert len(model_io.clone(result).graph.initializers) == (len(sizes) - 1) * (1 + bias) + apart
    assert sorted(g.size for g in verify(result).groups) == sorted(widths)
