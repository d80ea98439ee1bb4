from edgeprune.dependency.atoms import AtomSolver
from edgeprune.dependency.closure import close
from edgeprune.dependency.relate import relate
from tests.models import single


def test_frozen_products_are_not_expanded() -> None:
    """Pixels times classes, flattened for a TopK, are a million positions, and none can be removed."""
    model = single(
        """g (float[1,3,40,40] x) => (float[1,30] y)
        <int64[3] s = {1, 6, -1}, int64[2] f = {1, -1}, int64[1] k = {30}> {
            h = Conv(x, w1) c = Conv(h, w2)
            r = Reshape(c, s) t = Transpose<perm=[0,2,1]>(r) l = Reshape(t, f)
            y, i = TopK(l, k) }""",
        w1=(8, 3, 1, 1),
        w2=(6, 8, 1, 1),
    )
    solver = AtomSolver(close(relate(model), allow_statistic=False))
    assert len(solver.rows) == 0
    assert solver.count < 100
