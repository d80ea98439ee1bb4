from tests.dependency.rules.cases import Case, cases, check

GATE = "g = Sigmoid(r) z = Mul(h, g)"


@cases(
    Case("mean over space", f"r = ReduceMean<axes=[2,3]>(h) {GATE}", (6,)),
    Case("mean over channels", f"r = ReduceMean<axes=[1]>(h) {GATE}", (6,)),
    Case("mean over channels of what has no zero", f"s = Exp(h) r = ReduceMean<axes=[1]>(s) {GATE}", ()),
    Case("sum over channels", f"r = ReduceSum(h, k) {GATE}", (6,), constants="int64[1] k = {1}"),
    Case("norm over channels", f"r = ReduceL2<axes=[1]>(h) {GATE}", (6,)),
    Case("maximum over channels", f"r = ReduceMax<axes=[1]>(h) {GATE}", ()),
    Case("maximum over channels that are never negative", f"s = Relu(h) r = ReduceMax<axes=[1]>(s) {GATE}", (6,)),
    Case(
        "maximum beside mean over gated channels",
        """s = Clip(h, low, high) p = GlobalAveragePool(s) e = Sigmoid(p) t = Mul(s, e) m = ReduceMax<axes=[1]>(t)
           a = ReduceMean<axes=[1]>(t) c = Concat<axis=1>(m, a) g = Conv(c, wg) z = Mul(t, g)""",
        (6,),
        constants="float low = {0}, float high = {6}",
        weights={"wg": (1, 2, 1, 1)},
    ),
    Case("minimum over channels", f"s = Relu(h) r = ReduceMin<axes=[1]>(s) {GATE}", ()),
    Case("maximum over space", f"r = ReduceMax<axes=[2,3]>(h) {GATE}", (6,)),
    Case("over everything", f"r = ReduceSum(h) {GATE}", (6,)),
    Case("nothing to reduce", f"r = ReduceSum<noop_with_empty_axes=1>(h) {GATE}", (6,)),
    Case("position of the maximum", "a = ArgMax<axis=1>(h) b = Cast<to=1>(a) z = Mul(h, b)", ()),
    Case("position along space", "a = ArgMax<axis=3>(h) b = Cast<to=1>(a) z = Mul(h, b)", (6,)),
    Case("sorted along space", "z, i = TopK<axis=3>(h, k)", (6,), constants="int64[1] k = {2}"),
    Case("sorted along channels", "z, i = TopK<axis=1>(h, k)", (), out=2, constants="int64[1] k = {2}"),
    Case("running sum over space", "z = CumSum(h, k)", (6,), constants="int64 k = {2}"),
    Case("running sum over channels", "z = CumSum(h, k)", (), constants="int64 k = {1}"),
    Case("triangle", "z = Trilu(h)", (6,)),
)
def test_reductions(case: Case) -> None:
    check(case)
