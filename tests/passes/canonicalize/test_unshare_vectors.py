from edgeprune.dependency.solve import analyse
from edgeprune.passes.canonicalize.unshare_vectors import MAX_BYTES, unshare_vectors
from edgeprune.testing.oracle import verify
from tests.models import single

TEXT = """g (float[1,WIDTH,2,2] x) => (float[1,4,2,2] y) {
    h = Conv(x, w1, b)
    i = Conv(h, w2, b)
    y = Conv(i, w3)
}"""


def test_a_shared_bias_ties_no_layers() -> None:
    model = single(TEXT.replace("WIDTH", "3"), w1=(6, 3, 1, 1), w2=(6, 6, 1, 1), w3=(4, 6, 1, 1), b=(6,))
    assert [g.size for g in verify(model).groups] == [6, 6]
    assert unshare_vectors(model) == 0


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
