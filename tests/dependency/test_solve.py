"""From graphs to groups: what is one, what is free, what is frozen and why."""

import numpy as np
import pytest

from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.errors import ModelError
from edgeprune.testing.oracle import verify
from tests.models import single


def shape_of(analysis: Analysis) -> list[tuple[str, int]]:
    """Kind and size of every group, sorted."""
    return sorted((g.kind, g.size) for g in analysis.groups)


def test_a_chain_has_one_group_for_each_hidden_layer() -> None:
    a = verify(
        single(
            """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
                h = Conv(x, w1, b1)
                r = Relu(h)
                y = Conv(r, w2)
            }""",
            w1=(6, 3, 1, 1),
            b1=(6,),
            w2=(4, 6, 1, 1),
        )
    )
    (group,) = a.groups
    assert (group.kind, group.size) == ("channel", 6)
    assert [(m.value, m.axis, m.role) for m in group.members] == [
        ("w1", 0, "producer"),
        ("b1", 0, "producer"),
        ("w2", 1, "consumer"),
        ("h", 1, "activation"),
        ("r", 1, "activation"),
    ]


def test_a_residual_ties_both_branches() -> None:
    a = verify(
        single(
            """g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
                h = Conv(x, w1)
                i = Conv(h, w2)
                s = Add(h, i)
                y = Conv(s, w3)
            }""",
            w1=(6, 3, 1, 1),
            w2=(6, 6, 1, 1),
            w3=(4, 6, 1, 1),
        )
    )
    assert shape_of(a) == [("channel", 6)]
    assert a.roles["w2", 0] == "producer"
    assert a.roles["w2", 1] == "consumer"


def test_a_straddling_split_cuts_groups_where_it_cuts_the_axis() -> None:
    a = verify(
        single(
            """g (float[1,3,4,4] x) => (float[1,4,4,4] y, float[1,4,4,4] z)
            <int64[2] s = {5, 7}> {
                a = Conv(x, w1)
                b = Conv(x, w2)
                c = Concat<axis=1>(a, b)
                p, q = Split<axis=1>(c, s)
                y = Conv(p, w3)
                z = Conv(q, w4)
            }""",
            w1=(4, 3, 1, 1),
            w2=(8, 3, 1, 1),
            w3=(4, 5, 1, 1),
            w4=(4, 7, 1, 1),
        )
    )
    # a is [0, 4); of b, position 0 goes to p and the others to q
    assert shape_of(a) == [("channel", 1), ("channel", 4), ("channel", 7)]


def test_one_tensor_concatenated_twice_loses_both_copies() -> None:
    a = verify(
        single(
            """g (float[1,3,4,4] x) => (float[1,4,4,4] y) {
                a = Conv(x, w1)
                c = Concat<axis=1>(a, a)
                y = Conv(c, w2)
            }""",
            w1=(4, 3, 1, 1),
            w2=(4, 8, 1, 1),
        )
    )
    (group,) = a.groups
    member = next(m for m in group.members if m.value == "w2")
    assert member.unit.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_attention_has_heads_and_two_kinds_of_dimensions() -> None:
    a = verify(attention_model())
    assert shape_of(a) == [("dim", 4), ("dim", 6), ("head", 2)]
    query = next(g for g in a.groups if g.size == 4)
    # no weight is multiplied with the product of query and key: zeroing the key is the same as its removal
    assert a.roles["wk", 1] == "consumer"
    assert {m.value for m in query.members if m.role != "activation"} == {"wq", "bq", "wk"}
    assert a.roles["wo", 0] == "consumer"


def attention_model() -> object:
    return single(
        """g (float[1,5,8] x) => (float[1,5,8] y)
        <int64[4] sqk = {1, 5, 2, 4}, int64[4] sv = {1, 5, 2, 6}, int64[3] so = {1, 5, 12}> {
            q0 = MatMul(x, wq)
            q1 = Add(q0, bq)
            q2 = Reshape(q1, sqk)
            q = Transpose<perm=[0,2,1,3]>(q2)
            k0 = MatMul(x, wk)
            k1 = Reshape(k0, sqk)
            k = Transpose<perm=[0,2,3,1]>(k1)
            v0 = MatMul(x, wv)
            v1 = Reshape(v0, sv)
            v = Transpose<perm=[0,2,1,3]>(v1)
            a0 = MatMul(q, k)
            a = Softmax<axis=-1>(a0)
            o0 = MatMul(a, v)
            o1 = Transpose<perm=[0,2,1,3]>(o0)
            o2 = Reshape(o1, so)
            y = MatMul(o2, wo)
        }""",
        wq=(8, 8),
        bq=(8,),
        wk=(8, 8),
        wv=(8, 12),
        wo=(12, 8),
    )


def test_a_product_that_no_weight_can_zero_is_frozen() -> None:
    a = verify(
        single(
            """g (float[1,5,8] x) => (float[1,5,5] y) {
                q0 = MatMul(x, wq)
                q = Sigmoid(q0)
                k0 = MatMul(x, wk)
                k1 = Sigmoid(k0)
                k = Transpose<perm=[0,2,1]>(k1)
                y = MatMul(q, k)
            }""",
            wq=(8, 6),
            wk=(8, 6),
        )
    )
    assert a.groups == ()
    assert "no weight can zero what MatMul sums over" in str(a.frozen["wq", 1])


def test_layer_norm_is_a_statistic_and_frozen_by_default() -> None:
    model = single(
        """g (float[1,5,8] x) => (float[1,5,3] y) {
            h = MatMul(x, w1)
            n = LayerNormalization<axis=-1>(h, scale, bias)
            y = MatMul(n, w2)
        }""",
        w1=(8, 6),
        scale=(6,),
        bias=(6,),
        w2=(6, 3),
    )
    a = verify(model)
    assert a.groups == ()
    assert str(a.frozen["w1", 1]).startswith("LayerNormalization takes a statistic over this axis")
    loose = analyse(model, allow_statistic=True)
    assert shape_of(loose) == [("channel", 6)]
    assert loose.roles["scale", 0] == "statistic"


def test_conflicting_factorisations_freeze() -> None:
    a = verify(
        single(
            """g (float[1,2,2] x) => (float[1,2,3,4,2] y, float[1,2,4,3,2] z)
            <int64[5] s1 = {1, 2, 3, 4, 2}, int64[5] s2 = {1, 2, 4, 3, 2}> {
                h0 = MatMul(x, w)
                h1 = Transpose<perm=[0,2,1]>(h0)
                h = Transpose<perm=[0,2,1]>(h1)
                t = Relu(h)
                a = Reshape(t, s1)
                b = Reshape(t, s2)
                p = Relu(a)
                q = Relu(b)
                y = MatMul(p, w2)
                z = MatMul(q, w2)
            }""",
            w=(2, 24),
            w2=(2, 2),
        )
    )
    assert all(g.members[0].value != "w" or g.size < 24 for g in a.groups)


def test_an_unknown_operator_freezes_what_it_touches_and_says_so() -> None:
    a = analyse(
        single(
            """g (float[1,3,4,4] x) => (float[1,4,4,4] y) {
                h = Conv(x, w1)
                d = Det(h)
                y = Conv(h, w2)
            }""",
            w1=(6, 3, 1, 1),
            w2=(4, 6, 1, 1),
        )
    )
    assert len(a.groups) == 1  # Det is dead and removed
    a = analyse(
        single(
            """g (float[1,3,4,4] x) => (float[1,4,4,4] y, float[1,6] d) {
                h = Conv(x, w1)
                d = Det(h)
                y = Conv(h, w2)
            }""",
            w1=(6, 3, 1, 1),
            w2=(4, 6, 1, 1),
        )
    )
    assert a.groups == ()
    assert str(a.frozen["w2", 1]).startswith("no rule for Det")


def test_control_flow_freezes_what_its_bodies_read() -> None:
    a = analyse(
        single(
            """g (float[1,3,4,4] x, bool c) => (float[1,4,4,4] y) {
                h = Conv(x, w1)
                r = Relu(h)
                z = If(c) <then_branch = t () => (float[1,6,4,4] o) { o = Relu(r) },
                           else_branch = e () => (float[1,6,4,4] p) { p = Neg(r) }>
                y = Conv(z, w2)
            }""",
            w1=(6, 3, 1, 1),
            w2=(4, 6, 1, 1),
        )
    )
    assert a.groups == ()
    assert a.frozen["w1", 0].reason == "control flow"
    assert a.frozen["w2", 1].reason == "control flow"


def test_a_length_read_at_run_time_freezes_unless_it_only_sets_a_target() -> None:
    text = """g (float[N,3,4,4] x) => (float[N,4,4,4] y) {{
        h = Conv(x, w1)
        s = Shape(h)
        c = Gather<axis=0>(s, one)
        f = Cast<to=1>(c)
        r = {op}(f)
        m = Mul(h, r)
        y = Conv(m, w2)
    }}"""
    model = single(
        text.format(op="Sqrt").replace("=> (float[N,4,4,4] y)", "=> (float[N,4,4,4] y)\n<int64 one = {1}>"),
        w1=(6, 3, 1, 1),
        w2=(4, 6, 1, 1),
    )
    a = verify(model)  # canonicalization may know the length: either way the model must not change
    assert a.roles["w2", 1] == "consumer" or a.groups == ()


def test_dynamic_batches_and_targets() -> None:
    model = single(
        """g (float[N,5,8] x) => (float[N,5,8] y)
        <int64[1] zero = {0}, int64[1] one = {1}, int64[3] tail = {5, 2, 4}, int64[2] back = {5, 8}> {
            h = MatMul(x, w1)
            s = Shape(h)
            n = Slice(s, zero, one)
            t = Concat<axis=0>(n, tail)
            r = Reshape(h, t)
            p = Transpose<perm=[0,1,3,2]>(r)
            q = Transpose<perm=[0,1,3,2]>(p)
            u = Relu(q)
            v = Concat<axis=0>(n, back)
            f = Reshape(u, v)
            y = MatMul(f, w2)
        }""",
        w1=(8, 8),
        w2=(8, 8),
    )
    a = verify(model)
    assert sum(g.size for g in a.groups) in (6, 8)  # (head dim), or one axis if the reshapes cancel


def test_why_is_empty_for_what_can_be_cut_and_names_the_way_otherwise() -> None:
    model = single(
        """g (float[1,3,4,4] x) => (float[1,6,4,4] y) {
            h = Conv(x, w1)
            r = Relu(h)
            y = Neg(r)
        }""",
        w1=(6, 3, 1, 1),
    )
    a = analyse(model)
    chain = a.why("w1", 0)
    assert chain[-1].reason == "output of the graph"
    assert [step.reason for step in chain[:-1]] == ["tied"] * (len(chain) - 1)
    with pytest.raises(ModelError, match="no tensor 'nope'"):
        a.why("nope")
    with pytest.raises(ModelError, match="has 4 axes"):
        a.why("w1", 7)


def test_kept_refuses_cuts_that_do_not_fit() -> None:
    a = analyse(
        single(
            "g (float[1,3,8,8] x) => (float[1,4,8,8] y) { h = Conv(x, w1) y = Conv(h, w2) }",
            w1=(6, 3, 1, 1),
            w2=(4, 6, 1, 1),
        )
    )
    (group,) = a.groups
    for units in ([0, 0], [2, 1], [6], [-1]):
        with pytest.raises(ModelError, match="not sorted, unique and below 6"):
            a.kept({group.id: np.array(units)})
    assert a.kept({group.id: np.array([], dtype=np.int64)})["w1", 0].tolist() == []
    with pytest.raises(ModelError, match="there is no group 'z'"):
        a.kept({"z": np.array([0])})
    assert a.kept({group.id: np.arange(6)}) == {}
    kept = a.kept({group.id: np.array([1, 4])})
    assert kept["w1", 0].tolist() == [1, 4]
