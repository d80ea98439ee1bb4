import itertools
import warnings

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from edgeprune.dependency import dims
from edgeprune.dependency.dims import NodeView
from edgeprune.dependency.rules import elementwise
from edgeprune.dependency.zeroing import AT_ZERO
from edgeprune.testing.oracle import verify
from tests.dependency.rules.cases import Case, cases, check
from tests.models import single


@cases(
    Case("activations", "a = Sigmoid(h) b = Mul(h, a) c = Exp(b) z = Tanh(c)", (6,)),
    Case("a constant of each channel", "z = Mul(h, s)", (6,), weights={"s": (6, 1, 1)}),
    Case("a constant of all channels", "z = Add(h, s)", (6,), weights={"s": (1, 1, 1, 1)}),
    Case("a map for all channels", "z = Add(h, s)", (6,), weights={"s": (1, 1, 4, 4)}),
    Case("a single channel spread over many", "a = Conv(h, w) z = Mul(h, a)", (6,), weights={"w": (1, 6, 1, 1)}),
    Case("where", "c = Greater(h, n) z = Where(c, h, s)", (6,), constants="float n = {0}", weights={"s": (6, 1, 1)}),
    Case("several operands", "a = Relu(h) b = Neg(h) z = Max(h, a, b)", (6,)),
    Case("prelu", "z = PRelu(h, s)", (6,), weights={"s": (6, 1, 1)}),
    Case("clip", "z = Clip(h, a, b)", (6,), constants="float a = {-1}, float b = {1}"),
    Case("dropout", "z = Dropout(h)", (6,)),
    Case("power", "z = Pow(h, e)", (6,), constants="float e = {2}"),
)
def test_pointwise(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("function", "free"),
    [
        ("q = Relu(q0)", True),
        ("q = Mul(q0, s)", True),
        ("q = Add(q0, s)", True),  # the vector is zeroed as well
        ("q = Add(q0, one)", False),
        ("q = Sigmoid(q0)", False),
        ("q = Exp(q0)", False),
        ("q = Clip(q0, one, two)", False),
        ("q = Clip(q0, minus, one)", True),
        ("g = Sigmoid(q0) q = Mul(q0, g)", True),
        ("g = Sigmoid(q0) q = Add(q0, g)", False),
        ("q = Softmax<axis=1>(q0)", False),
        ("g = ReduceSum<keepdims=1>(q0, axis) q = Div(q0, g)", False),  # 0 / 0
        ("a = Abs(q0) b = ReduceSum<keepdims=1>(a, axis) g = Add(b, one) q = Div(q0, g)", True),
        ("g = Exp(q0) q = Div(q0, g)", True),
        ("g = Log(q0) e = Relu(g) q = Mul(q0, e)", False),
        ("g = Mul(q0, q0) q = Pow(g, two)", True),
        ("g = Mul(q0, q0) q = Pow(g, half)", True),
        ("g = Sigmoid(q0) e = Pow(g, minus) q = Mul(q0, e)", True),
        ("e = Pow(q0, minus) q = Mul(q0, e)", False),  # zero to a power below zero
        ("q = Max(q0, minus)", True),
        ("q = Max(q0, one)", False),
        ("q = Min(q0, one)", True),
        ("q = Min(q0, minus)", False),
        ("q = Shrink<lambd=0.1>(q0)", True),
        ("q = Shrink<lambd=-0.5, bias=0.3>(q0)", False),
        ("q = HardSigmoid<beta=0.0>(q0)", True),
        ("q = HardSigmoid(q0)", False),
        ("g = Softplus(q0) q = Sub(g, log2)", True),
        ("g = Softplus(q0) q = Sub(g, one)", False),
        ("g = Exp(q0) q = Add(minus, g)", True),
        ("g = Exp(q0) q = Sub(one, g)", False),
        ("g = Greater(q0, zero) q = Where(g, one, zero)", True),
        ("g = Less(q0, one) q = Where(g, one, zero)", False),
        ("a = Mul(q0, q0) b = ReduceMean<keepdims=1, axes=[2]>(a) c = Add(b, one) g = Sqrt(c) q = Div(q0, g)", True),
        ("a = Pow(q0, two) b = ReduceMean<keepdims=1, axes=[2]>(a) c = Add(b, one) g = Sqrt(c) q = Div(q0, g)", True),
        ("a = ReduceL2<keepdims=1, axes=[2]>(q0) g = Clip(a, one) q = Div(q0, g)", True),
        ("q = LpNormalization<axis=2>(q0)", True),
        ("q = LpNormalization<axis=1>(q0)", False),  # a column that is zero has no norm
    ],
)
def test_a_product_of_two_tensors_needs_a_zero_that_survives(function: str, free: bool) -> None:
    model = single(
        f"""g (float[1,5,8] x) => (float[1,5,5] y)
        <float zero = {{0}}, float one = {{1}}, float two = {{2}}, float half = {{0.5}}, float minus = {{-1}},
         float log2 = {{0.6931471806}}, int64[1] axis = {{1}}> {{
            q0 = MatMul(x, wq)
            k0 = MatMul(x, wk)
            {function}
            k1 = Sigmoid(k0)
            k = Transpose<perm=[0,2,1]>(k1)
            y = MatMul(q, k)
        }}""",
        wq=(8, 6),
        wk=(8, 6),
        s=(6,),
    )
    assert [g.size for g in verify(model).groups] == ([6] if free else [])


NOT_OF_ZERO = {"Dropout": "ratio and mode", "CastLike": "the second operand is a type"}
BOOLEAN = {"And", "Or", "Xor", "Not"}
INTEGER = {"BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"}
ATTRIBUTES = {"BitShift": {"direction": "LEFT"}, "Cast": {"to": onnx.TensorProto.DOUBLE}, "Mod": {"fmod": 1}}
ONNX_OPSET = 24


def elementwise_operators() -> list[str]:
    """Operators of ONNX with a rule in the file of elementwise operators."""
    rules = {op for (domain, op), rule in dims._RULES.items() if not domain and rule.__module__ == elementwise.__name__}
    return sorted(op for op in rules if onnx.defs.has(op) and op not in NOT_OF_ZERO)


def of_zero(op: str, other: float, zero: tuple[int, ...], count: int) -> np.ndarray:
    """The operator's value where the operands ``zero`` are zero and the others are not."""
    kind = np.bool_ if op in BOOLEAN else np.uint8 if op in INTEGER else np.float32
    feeds = {f"x{k}": np.full(3, 0 if k in zero else other, kind) for k in range(count)}
    if op == "Where":
        feeds["x0"] = feeds["x0"].astype(np.bool_)
    node = onnx.helper.make_node(op, list(feeds), ["y"], **ATTRIBUTES.get(op, {}))
    inputs = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), [3])
        for n, a in feeds.items()
    ]
    output = onnx.helper.make_empty_tensor_value_info("y")
    graph = onnx.helper.make_graph([node], "g", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", ONNX_OPSET)])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(ReferenceEvaluator(model).run(None, feeds)[0])


@pytest.mark.parametrize("op", elementwise_operators())
def test_zeros_of_every_elementwise_operator_are_those_of_its_definition(op: str) -> None:
    """For each set of zero operands: if the rule says that the result is zero, ONNX's reference computes zero."""
    schema = onnx.defs.get_schema(op, max_inclusive_version=ONNX_OPSET)
    count = 3 if schema.max_input > 3 else schema.max_input
    count = 1 if op == "Clip" else count
    node = ir.node(op, [ir.Value(name=f"x{k}", shape=ir.Shape((3,))) for k in range(count)])
    rel = dims.rule_of("", op)(NodeView(node, ONNX_OPSET))
    others = (1.0,) if op in BOOLEAN else (1.0, 3.0) if op in INTEGER | {"Where"} else (-0.5, 0.5, 2.5)
    said = []
    for zero in itertools.chain.from_iterable(itertools.combinations(range(count), n) for n in range(1, count + 1)):
        if op in ("Div", "Mod") and 1 in zero:
            continue  # a divisor is never cut to zero: see Relations.risky
        claimed = rel.zeros is not None and all(set(either) & set(zero) for either in rel.zeros)
        computed = all(not of_zero(op, other, zero, count).any() for other in others)
        assert computed or not claimed, zero
        said.append((claimed, computed))
    if op not in ("Pow", "Clip"):  # their operands must be constants, as the cases above have them
        assert said[-1][0] == said[-1][1]  # nothing is forgotten where all operands are zero


def test_constants_of_zero_are_what_the_functions_compute() -> None:
    for op, value in AT_ZERO.items():
        assert of_zero(op, 1.0, (0,), 1) == pytest.approx(value, abs=1e-7)  # one rounding of float32


KEEPING = [
    *("Abs({})", "Relu({})", "Tanh({})", "LeakyRelu({})", "Softsign({})", "Neg({})", "Mul({0}, {0})", "Pow({}, two)"),
    *(
        "Mul({}, gate)",
        "Div({}, norm)",
        "Mul({}, s)",
        "Max({}, minus)",
        "Clip({}, minus, two)",
        "Where(mask, {}, zero)",
    ),
]
BREAKING = ["Sigmoid({})", "Add({}, one)", "Exp({})", "Max({}, one)", "Cos({})"]


@settings(max_examples=25, deadline=None)
@given(chain=st.lists(st.sampled_from(KEEPING), min_size=1, max_size=5), end=st.sampled_from([None, *BREAKING]))
def test_a_chain_keeps_zeros_if_each_of_its_nodes_does(chain: list[str], end: str | None) -> None:
    steps = [*chain, *([end] if end else [])]
    body = "\n".join(f"q{k + 1} = {step.format(f'q{k}')}" for k, step in enumerate(steps))
    model = single(
        f"""g (float[1,5,8] x) => (float[1,5,5] y)
        <float zero = {{0}}, float one = {{1}}, float two = {{2}}, float minus = {{-1}}> {{
            q0 = MatMul(x, wq)
            g0 = MatMul(x, wk)
            gate = Sigmoid(g0)
            square = Mul(q0, q0)
            mean = ReduceMean<axes=[2], keepdims=1>(square)
            more = Add(mean, one)
            norm = Sqrt(more)
            mask = Greater(g0, zero)
            {body}
            k = Transpose<perm=[0,2,1]>(gate)
            y = MatMul(q{len(steps)}, k)
        }}""",
        wq=(8, 6),
        wk=(8, 6),
        s=(6,),
    )
    assert [g.size for g in verify(model).groups] == ([] if end else [6])
