import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.testing.oracle import error, feeds_for, random_cut, run, verify
from tests.dependency.rules.cases import Case, cases, check
from tests.models import single, sizes

SCALES = {"s": (6,), "b": (6,)}


@cases(
    Case("instance", "z = InstanceNormalization(h, s, b)", (6,), weights=SCALES),
    Case(
        "batch",
        "r = Relu(h) z = BatchNormalization(r, s, b, m, v)",
        (6,),
        weights=SCALES | {"m": (6,)},
        constants="float[6] v = {1,2,1,2,1,2}",
    ),
    Case(
        "group",
        "i = GroupNormalization<num_groups=3>(h, s, b) z = Add(h, i)",
        (3,),
        weights=SCALES,
        opset=21,
        constants="float[1,6,4,4] i",
    ),
    Case(
        "group, as exported",
        "a = Reshape(h, s3) i = InstanceNormalization(a, s, b) c = Reshape(i, s4) d = Mul(c, w) z = Add(d, e)",
        (3,),
        constants="int64[3] s3 = {0, 3, -1}, int64[4] s4 = {1, 6, 4, 4}",
        weights={"s": (3,), "b": (3,), "w": (6, 1, 1), "e": (6, 1, 1)},
    ),
    Case(
        "layer",
        "t = Transpose<perm=[0,2,3,1]>(h) n = LayerNormalization<axis=-1>(t, s, b) z = Transpose<perm=[0,3,1,2]>(n)",
        (),
        weights=SCALES,
    ),
    Case("over space", "n = LayerNormalization<axis=2>(h, s, b) z = Relu(n)", (6,), weights={"s": (4, 4), "b": (4, 4)}),
    Case(
        "statistics that are read",
        "n, mean, deviation = LayerNormalization<axis=2>(h, s, b) z = Sub(n, mean)",
        (6,),
        weights={"s": (4, 4), "b": (4, 4)},
    ),
    Case("local response", "z = LRN<size=3>(h)", ()),
    Case("softmax over channels", "z = Softmax<axis=1>(h)", ()),
    Case("softmax over space", "z = Softmax<axis=3>(h)", (6,)),
    Case("softmax before opset 13", "z = Softmax<axis=2>(h)", (6,), opset=11),
    Case("lp", "z = LpNormalization<axis=1>(h)", (6,)),
    Case("lp along another axis", "z = LpNormalization<axis=3>(h)", (6,)),
    Case("mean and variance", "z = MeanVarianceNormalization<axes=[2,3]>(h)", (6,)),
)
def test_normalisations(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("op", ["LayerNormalization<axis=-1>(h, s, b)", "RMSNormalization<axis=-1>(h, s)"])
def test_statistics_are_taken_over_what_is_left_if_allowed(op: str) -> None:
    model = single(
        f"g (float[1,5,8] x) => (float[1,5,3] y) {{ h = MatMul(x, w1) n = {op} y = MatMul(n, w2) }}",
        23,
        w1=(8, 6),
        s=(6,),
        b=(6,),
        w2=(6, 3),
    )
    assert verify(model).groups == ()
    loose = analyse(model, allow_statistic=True)
    assert [g.size for g in loose.groups] == [6]


@pytest.mark.parametrize(("kind", "groups"), [("group", 1), ("dim", 2)])
def test_group_normalisation_over_what_is_left(kind: str, groups: int) -> None:
    model = single(
        """g (float[1,3,4,4] x) => (float[1,4,4,4] y) {
            h = Conv(x, w1)
            n = GroupNormalization<num_groups=2, epsilon=0.001>(h, s, b)
            y = Conv(n, w2)
        }""",
        21,
        w1=(8, 3, 1, 1),
        s=(8,),
        b=(8,),
        w2=(4, 8, 1, 1),
    )
    analysis = analyse(model, allow_statistic=True)
    (cut,) = ({g.id: np.arange(0, g.size, 2)} for g in analysis.groups if g.kind == kind)
    k = analysis.kept(cut)["w1", 0]
    w = {name: v.const_value.numpy().astype(np.float64) for name, v in model.graph.initializers.items()}
    feeds = feeds_for(model, 0)
    h = np.einsum("oi,nihw->nohw", w["w1"][k, :, 0, 0], feeds["x"])
    flat = h.reshape(1, groups, -1)
    spread = np.sqrt(flat.var(axis=2, keepdims=True) + 1e-3)
    n = ((flat - flat.mean(axis=2, keepdims=True)) / spread).reshape(h.shape)
    n = n * w["s"][k, None, None] + w["b"][k, None, None]
    want = np.einsum("oi,nihw->nohw", w["w2"][:, k, 0, 0], n)
    (have,) = run(prune_channels(model, analysis, cut), feeds)
    np.testing.assert_allclose(have, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_global_response_normalisation_is_exact() -> None:
    model = single(
        """g (float[1,3,4,4] x) => (float[1,4,4,4] y) <float e = {0.01}> {
            h0 = Conv(x, w1, b1)
            h = Relu(h0)
            n = ReduceL2<axes=[2,3]>(h)
            m = ReduceMean<axes=[1]>(n)
            me = Add(m, e)
            r = Div(n, me)
            z = Mul(h, r)
            y = Conv(z, w2)
        }""",
        w1=(6, 3, 1, 1),
        b1=(6,),
        w2=(4, 6, 1, 1),
    )
    analysis = analyse(model)
    assert [g.size for g in analysis.groups] == [6]
    assert analysis.roles["w1", 0] == "consumer"  # its zeros are what makes the mean of fewer positions exact
    assert error(model, analysis, random_cut(analysis, np.random.default_rng(0))) < 1e-5


GATED = """g (float[1,5,8] x) => (float[1,5,3] y) <int64[2] s = {6, 6}> {
    h = MatMul(x, w1)
    u, v = Split<axis=-1>(h, s)
    n = LayerNormalization<axis=-1>(v, s1, b1)
    t = Transpose<perm=[0,2,1]>(n) m = MatMul(t, wt) f = Transpose<perm=[0,2,1]>(m)
    z = Mul(u, f)
    y = MatMul(z, w2) }"""
GATED_WEIGHTS = {"w1": (8, 12), "s1": (6,), "b1": (6,), "wt": (5, 5), "w2": (6, 3)}


def test_channels_of_a_gate_go_though_the_norm_before_it_sees_all_of_them() -> None:
    model = single(GATED, 17, **GATED_WEIGHTS)
    analysis = verify(model)
    (group,) = analysis.groups
    assert {(m.value, m.axis) for m in group.members if m.role != "activation"} == {("w1", 1), ("w2", 0)}
    pruned = prune_channels(model, analysis, {group.id: np.array([0, 2, 5])})
    lengths = sizes(pruned)
    assert (lengths["w1"], lengths["w2"], lengths["s1"]) == ((8, 9), (3, 3), (6,))


def test_a_gate_and_its_norm_are_cut_together_where_statistics_may_be() -> None:
    model = single(GATED, 17, **GATED_WEIGHTS)
    analysis = analyse(model, allow_statistic=True)
    (group,) = analysis.groups
    lengths = sizes(prune_channels(model, analysis, {group.id: np.array([0, 2, 5])}))
    assert (lengths["w1"], lengths["w2"], lengths["s1"]) == ((8, 6), (3, 3), (3,))


def test_a_norm_before_a_projection_stays_whole() -> None:
    text = (
        "g (float[1,5,8] x) => (float[1,5,3] y) { h = MatMul(x, w1) n = LayerNormalization(h, s, b) y = MatMul(n, w2) }"
    )
    analysis = analyse(single(text, 17, w1=(8, 6), w2=(6, 3), **SCALES))
    assert not analysis.groups
    assert "takes a statistic" in str(analysis.why("w2", 0)[-1])


def test_a_statistic_that_is_an_output_holds_the_axes_that_it_has() -> None:
    model = single(
        """g (float[1,3,4,4] x) => (float[1,5,4,4] y, float[1,6,4,1] mean) {
            h = Conv(x, w1) n, mean = LayerNormalization<axis=-1>(h, s, b) y = Conv(n, w2) }""",
        17,
        w1=(6, 3, 1, 1),
        s=(4,),
        b=(4,),
        w2=(5, 6, 1, 1),
    )
    assert not analyse(model).groups
