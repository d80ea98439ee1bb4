"""A network as a latency model sees it."""

from edgeprune.dependency.solve import analyse
from edgeprune.latency.block_network import network
from edgeprune.search.pricing import levels_of
from edgeprune.testing.oracle import parse


def test_channels_of_a_depthwise_convolution_are_removed_by_sixteen() -> None:
    model = parse(
        """
        g (float[1, 3, 8, 8] x) => (float[1, 5, 8, 8] y) {
          a = Conv<pads=[1, 1, 1, 1]>(x, w1)
          d = Conv<pads=[1, 1, 1, 1], group=72>(a, w2)
          b = Conv(d, w3)
          c = Relu(b)
          y = Conv(c, w4)
        }
        """,
        w1=(72, 3, 3, 3),
        w2=(72, 1, 3, 3),
        w3=(40, 72, 1, 1),
        w4=(5, 40, 1, 1),
    )
    net = network(model, analyse(model))
    assert dict(zip(net.sizes.tolist(), net.steps, strict=True)) == {72: 16, 40: 8}
    assert levels_of(net)[net.sizes.tolist().index(72)].tolist() == [16, 32, 48, 64, 72]
