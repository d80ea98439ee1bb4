from edgeprune.costmodel.blocks import partition
from edgeprune.testing.oracle import parse

SILU = """
g (float[1, 8, 8, 8] x) => (float[1, 16, 8, 8] y) {
  c = Conv(x, w1, b1)
  s = Sigmoid(c)
  m = Mul(c, s)
  d = Conv(m, w2, b2)
  r = Add(d, m)
  p = MaxPool<kernel_shape=[1, 1]>(r)
  q = Concat<axis=1>(p, m)
  y = Relu(q)
}
"""


def test_pointwise_nodes_join_the_operand_computed_last() -> None:
    text = SILU.replace("float[1, 16, 8, 8] y", "float[1, 32, 8, 8] y").replace(
        "MaxPool<kernel_shape=[1, 1]>", "Softmax<axis=1>"
    )
    model = parse(text, w1=(16, 8, 1, 1), b1=(16,), w2=(16, 16, 1, 1), b2=(16,))
    ops = {str(n.name): n.op_type for n in model.graph}
    assert [[ops[n] for n in b.nodes] for b in partition(model)] == [
        ["Conv", "Sigmoid", "Mul"],
        ["Conv", "Add"],
        ["Softmax"],
        ["Concat", "Relu"],
    ]


def test_every_node_is_in_one_block_and_the_anchor_is_weighted() -> None:
    model = parse(
        SILU.replace("float[1, 16, 8, 8] y", "float[1, 32, 8, 8] y"),
        w1=(16, 8, 1, 1),
        b1=(16,),
        w2=(16, 16, 1, 1),
        b2=(16,),
    )
    blocks = partition(model)
    assert sorted(n for b in blocks for n in b.nodes) == sorted(str(n.name) for n in model.graph)
    ops = {str(n.name): n.op_type for n in model.graph}
    assert [ops[b.anchor] for b in blocks if b.weighted] == ["Conv", "Conv"]


def test_a_matmul_of_two_activations_is_not_weighted() -> None:
    model = parse("g (float[4, 4] x) => (float[4, 4] y) { h = Relu(x) y = MatMul(h, x) }")
    assert [b.weighted for b in partition(model)] == [False, False]
