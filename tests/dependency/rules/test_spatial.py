from edgeprune.dependency.solve import analyse
from edgeprune.testing.oracle import verify
from tests.dependency.rules.cases import Case, cases, check
from tests.models import single

NOTHING = "float[0] e = {}"


@cases(
    Case(
        "pooling",
        "a = MaxPool<kernel_shape=[2,2]>(h) b = AveragePool<kernel_shape=[2,2]>(a) z = GlobalMaxPool(b)",
        (6,),
    ),
    Case(
        "indices that count through channels",
        "a, i = MaxPool<kernel_shape=[2,2]>(h) c = Cast<to=1>(i) z = Add(a, c)",
        (),
    ),
    Case("resize by scales", "z = Resize(h, e, s)", (6,), constants="float[0] e = {}, float[4] s = {1, 1, 2, 2}"),
    Case("resize to lengths", "z = Resize(h, e, e, s)", (6,), constants="float[0] e = {}, int64[4] s = {1, 6, 8, 8}"),
    Case(
        "resize of channels", "z = Resize(h, e, s)", (), out=12, constants="float[0] e = {}, float[4] s = {1, 2, 1, 1}"
    ),
    Case(
        "resize of given axes",
        "z = Resize<axes=[2,3]>(h, e, e, s)",
        (6,),
        constants="float[0] e = {}, int64[2] s = {8, 8}",
        opset=18,
    ),
    Case("upsample", "z = Upsample(h, s)", (6,), constants="float[4] s = {1, 1, 2, 2}", opset=9),
    Case("depth to space", "z = DepthToSpace<blocksize=2>(h)", (3,), channels=12, out=3),
    Case("depth to space, by columns", 'z = DepthToSpace<blocksize=2, mode="CRD">(h)', (3,), channels=12, out=3),
    Case("space to depth", "z = SpaceToDepth<blocksize=2>(h)", (6,), out=24),
    Case(
        "columns to an image",
        "a = Reshape(h, s) z = Col2Im<strides=[2,2]>(a, i, b)",
        (6,),
        channels=24,
        constants="int64[3] s = {1, 24, 16}, int64[2] i = {8, 8}, int64[2] b = {2, 2}",
        opset=18,
    ),
    Case(
        "there and back",
        'a = SpaceToDepth<blocksize=2>(h) b = Conv(a, w) z = DepthToSpace<blocksize=2, mode="CRD">(b)',
        (6, 2),
        out=2,
        weights={"w": (8, 24, 1, 1)},
    ),
)
def test_spatial_operators(case: Case) -> None:
    check(case)


def test_the_batch_axes_of_a_grid_and_its_image_are_one() -> None:
    model = single(
        """g (float[1,5,8] x, float[1,5,12] p) => (float[1,12,1,5] y)
        <int64[4] s = {4, 3, 1, 5}, int64[4] t = {4, 2, 5, 1}, int64[4] o = {1, 12, 1, 5}> {
            a0 = MatMul(x, w1)
            a1 = Transpose<perm=[0,2,1]>(a0)
            a = Reshape(a1, s)
            b0 = MatMul(x, w2)
            b1 = Transpose<perm=[0,2,1]>(b0)
            b2 = Reshape(b1, t)
            b = Transpose<perm=[0,3,2,1]>(b2)
            c = GridSample(a, b)
            d = Reshape(c, o)
            y = Conv(d, w3)
        }""",
        w1=(8, 12),
        w2=(8, 8),
        w3=(12, 12, 1, 1),
    )
    assert 4 in [g.size for g in verify(model).groups]  # heads, in the image and in the grid


def test_indices_that_are_an_output_hold_the_channels() -> None:
    model = single(
        """g (float[1,3,4,4] x) => (float[1,5,2,2] y, int64[1,6,2,2] at) {
            h = Conv(x, w1) p, at = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h) y = Conv(p, w2) }""",
        w1=(6, 3, 1, 1),
        w2=(5, 6, 1, 1),
    )
    assert not analyse(model).groups
