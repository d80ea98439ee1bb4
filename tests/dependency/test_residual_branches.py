import numpy as np

from edgeprune.dependency.residual_branches import Branch, bypassed, droppable
from edgeprune.dependency.solve import analyse
from edgeprune.latency.block_network import network
from edgeprune.search.pricing import levels_of
from edgeprune.testing.oracle import parse

RESIDUAL = """
g (float[n, 64, 8, 8] x) => (float[n, 5, 8, 8] y) {
  h = Conv(x, w1)
  r = Relu(h)
  k = Conv(r, w2)
  s = Add(k, x)
  t = Relu(s)
  u = Conv(t, w3)
  v = Relu(u)
  y = Conv(v, w4)
}
"""


def test_the_inside_of_a_residual_branch_and_nothing_else() -> None:
    model = parse(RESIDUAL, w1=(96, 64, 1, 1), w2=(64, 96, 1, 1), w3=(80, 64, 1, 1), w4=(5, 80, 1, 1))
    analysis = analyse(model)
    found = bypassed(model, analysis.groups)
    assert [g.size for g in analysis.groups if g.id in found] == [96]
    levels = dict(zip([g.size for g in analysis.groups], levels_of(network(model, analysis)), strict=True))
    np.testing.assert_array_equal(levels[96], np.arange(0, 97, 8))
    assert levels[80][0] == 16
    ends = droppable(model, analysis.groups)
    names = [next(n for n in model.graph if n.outputs[0].name == value).name for value in ("k", "s")]
    dead = {str(n.name) for n in model.graph if n.outputs[0].name in ("h", "r", "k")}
    assert list(ends.values()) == [Branch(str(names[0]), str(names[1]), "x", "", frozenset(dead))]


def test_a_matmul_with_its_bias() -> None:
    text = """
    g (float[n, 7, 32] x) => (float[n, 7, 32] y) {
      h = MatMul(x, w1)
      b = Add(h, b1)
      r = Relu(b)
      k = MatMul(r, w2)
      c = Add(k, b2)
      y = Add(x, c)
    }
    """
    model = parse(text, w1=(32, 64), b1=(64,), w2=(64, 32), b2=(32,))
    analysis = analyse(model)
    assert bypassed(model, analysis.groups) == {g.id for g in analysis.groups if g.size == 64}


def test_a_branch_that_something_else_reads_too_is_none() -> None:
    text = RESIDUAL.replace("y = Conv(v, w4)", "z = Conv(v, w4)\n  e = Conv(r, w5)\n  y = Mul(z, e)")
    model = parse(text, w1=(96, 64, 1, 1), w2=(64, 96, 1, 1), w3=(80, 64, 1, 1), w4=(5, 80, 1, 1), w5=(5, 96, 1, 1))
    assert bypassed(model, analyse(model).groups) == frozenset()
