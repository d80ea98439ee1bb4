"""Norms that exporters spelled out, against numpy networks that take them over the positions that are left."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeprune.dependency.solve import analyse
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.testing.oracle import feeds_for, random_cut, run, verify
from tests.models import single

SPELLINGS = {
    "pow and sqrt": """
        m = ReduceMean<axes=[-1]>(h)  c = Sub(h, m)  q = Pow(c, two)  v = ReduceMean<axes=[-1]>(q)
        ve = Add(v, e)  d = Sqrt(ve)  n = Div(c, d)""",
    "a square as a product": """
        m = ReduceMean<axes=[2]>(h)  c = Sub(h, m)  q = Mul(c, c)  v = ReduceMean<axes=[-1]>(q)
        ve = Add(v, e)  d = Sqrt(ve)  r = Reciprocal(d)  n = Mul(c, r)""",
    "centred twice": """
        m = ReduceMean<axes=[-1]>(h)  c = Sub(h, m)  c2 = Sub(h, m)  q = Pow(c2, two)  v = ReduceMean<axes=[-1]>(q)
        ve = Add(v, e)  d = Pow(ve, half)  n = Div(c, d)""",
    "mean of squares less square of mean": """
        m = ReduceMean<axes=[-1]>(h)  q = Mul(h, h)  s = ReduceMean<axes=[-1]>(q)  mm = Mul(m, m)  v = Sub(s, mm)
        ve = Add(v, e)  d = Sqrt(ve)  c = Sub(h, m)  n = Div(c, d)""",
    "folded into scale and shift": """
        m = ReduceMean<axes=[-1]>(h)  c = Sub(h, m)  q = Mul(c, c)  v = ReduceMean<axes=[-1]>(q)
        ve = Add(v, e)  d = Sqrt(ve)  r = Reciprocal(d)  hr = Mul(h, r)  mr = Mul(m, r)  n = Sub(hr, mr)""",
    "means without the axis": """
        m0 = ReduceMean<axes=[-1], keepdims=0>(h)  m = Unsqueeze(m0, last)  c = Sub(h, m)  q = Mul(c, c)
        v0 = ReduceMean<axes=[-1], keepdims=0>(q)  v = Unsqueeze(v0, last)  ve = Add(v, e)  d = Sqrt(ve)
        n = Div(c, d)""",
}
CONSTANTS = "float two = {2}, float half = {0.5}, float e = {0.01}, int64[1] last = {2}, float bessel = {1.0667}"


def net(spelling: str, *, width: int = 16) -> ir.Model:
    text = f"""g (float[1,5,8] x) => (float[1,5,3] y) <{CONSTANTS}> {{
        h0 = MatMul(x, w1)
        h = Add(h0, b1)
        {spelling}
        o0 = Mul(n, scale)
        o = Add(o0, shift)
        y = MatMul(o, w2)
    }}"""
    return single(text, w1=(8, width), b1=(width,), scale=(width,), shift=(width,), w2=(width, 3))


def by_numpy(x: NDArray[np.float64], w: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    h = x @ w["w1"] + w["b1"]
    centred = h - h.mean(axis=-1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 0.01)
    out: NDArray[np.float64] = (normal * w["scale"] + w["shift"]) @ w["w2"]
    return out


def weights(model: ir.Model) -> dict[str, NDArray[np.float64]]:
    held = {name: v.const_value for name, v in model.graph.initializers.items()}
    return {name: t.numpy().astype(np.float64) for name, t in held.items() if t is not None and t.size > 1}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_its_statistics_are_taken_over_what_is_left(spelling: str) -> None:
    model = net(spelling)
    analysis = analyse(model, allow_statistic=True)
    (group,) = analysis.groups
    assert group.size == 16
    pruned = prune_channels(model, analysis, random_cut(analysis, np.random.default_rng(0)))
    left = weights(pruned)
    assert left["w1"].shape[1] == left["scale"].size == left["w2"].shape[0] < 16
    feeds = feeds_for(model, 0)
    want = by_numpy(feeds["x"].astype(np.float64), left)
    (have,) = run(pruned, feeds)
    np.testing.assert_allclose(have, want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_by_default_it_is_frozen(spelling: str) -> None:
    analysis = verify(net(spelling))
    assert analysis.groups == ()
    last = analysis.why("w1", 1)[-1]
    assert last.reason == "ReduceMean takes a statistic over this axis"


@pytest.mark.parametrize(
    "spelling",
    [
        # The factor n / (n - 1) holds the number of positions.
        """m = ReduceMean<axes=[-1]>(h)  c = Sub(h, m)  q = Mul(c, c)  v0 = ReduceMean<axes=[-1]>(q)
           v = Mul(v0, bessel)  ve = Add(v, e)  d = Sqrt(ve)  n = Div(c, d)""",
        # The mean of one tensor taken from another is no norm.
        """t = Tanh(h)  m = ReduceMean<axes=[-1]>(t)  c = Sub(h, m)  q = Mul(c, c)  v = ReduceMean<axes=[-1]>(q)
           ve = Add(v, e)  d = Sqrt(ve)  n = Div(c, d)""",
    ],
    ids=["unbiased", "another tensor's mean"],
)
def test_what_only_looks_like_one_stays_frozen(spelling: str) -> None:
    assert analyse(net(spelling), allow_statistic=True).groups == ()


def test_a_mean_of_squares_is_cut_exactly() -> None:
    """RMSNorm: a position that is zero adds nothing, and the mean still counts the positions that there were."""
    model = net("""q = Mul(h, h)  s = ReduceMean<axes=[-1]>(q)  se = Add(s, e)  d = Sqrt(se)  n = Div(h, d)""")
    assert [g.size for g in verify(model).groups] == [16]


def test_a_centred_value_without_variance_is_cut_exactly() -> None:
    model = net("m = ReduceMean<axes=[-1]>(h)  n = Sub(h, m)")
    assert [g.size for g in verify(model).groups] == [16]
