"""Every rule against central differences along random directions, in onnxruntime."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.gradients import Tape, backward
from edgeprune.gradients.tape import RULES
from edgeprune.graph import model_io as graph
from tests.small_models import build, normal

STEP = 1e-2
"""Central differences are off by the third derivative times its square, and by float32's 1e-7 over it."""


def check(model: ir.Model, x: Mapping[str, np.ndarray], tolerance: float = 3e-3) -> ir.Model:
    """Gradients of a random weighting of the output with respect to all float inputs and initializers."""
    rng = np.random.default_rng(1)
    values = dict(x)
    for name, value in list(model.graph.initializers.items()):
        if value.dtype == ir.DataType.FLOAT and value.name in wanted_names(model):
            values[name] = value.const_value.numpy()
    work = graph.clone(model)
    output = work.graph.outputs[0]
    shape = [int(str(d)) for d in output.shape]
    seed = ir.Value(name="seed", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    work.graph.inputs.append(seed)
    found = backward(Tape(work.graph), {output.name: seed}, set(values))
    assert not found.stopped
    assert set(found.of) == set(values)
    for name in set(values) - set(x):
        work.graph.inputs.append(work.graph.initializers.pop(name))
        work.graph.inputs[-1].const_value = None
    work.graph.outputs.extend(found.of[name] for name in values)
    runner = OnnxRuntime(1).load(graph.to_bytes(work))
    weights = rng.standard_normal(shape).astype(np.float32)
    y, *gradients = runner.run({**values, "seed": weights})
    for name, gradient in zip(values, gradients, strict=True):
        assert gradient.shape == values[name].shape
        for _ in range(3):
            along = rng.uniform(-1, 1, gradient.shape).astype(np.float32)
            ends = [runner.run({**values, name: values[name] + s * along, "seed": weights})[0] for s in (STEP, -STEP)]
            measured = float((weights.astype(np.float64) * (ends[0].astype(np.float64) - ends[1])).sum() / (2 * STEP))
            scale = float(np.linalg.norm(gradient) * np.linalg.norm(along)) + 1e-3 * float(np.abs(y).sum())
            assert abs(float((gradient * along).sum()) - measured) < tolerance * scale, name
    return work


def wanted_names(model: ir.Model) -> set[str]:
    """Float initializers that are weights: not scales of quantization, sizes of Resize, bounds of Clip."""
    skipped = {("QuantizeLinear", 1), ("DequantizeLinear", 1), ("Clip", 1), ("Clip", 2), ("Resize", 2), ("Pow", 1)}
    skipped |= {("BatchNormalization", 3), ("BatchNormalization", 4), ("Pad", 2)}
    return {
        value.name
        for value in model.graph.initializers.values()
        if not any((node.op_type, index) in skipped for node, index in value.uses())
    }


def random(*shape: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    return np.random.default_rng(shape).uniform(low, high, shape).astype(np.float32)


@pytest.mark.parametrize(
    "op",
    [
        "Sigmoid", "Tanh", "Exp", "Erf", "Softplus", "Neg", "Sin", "Cos", "Identity",
        "Softmax<axis=1>", "Softmax<axis=-1>", "LogSoftmax<axis=-1>", "Gelu", 'Gelu<approximate="tanh">',
        "Elu<alpha=0.7>", "Transpose<perm=[0,2,1]>", "Transpose", "Flatten<axis=2>", "ReduceL2<keepdims=0>",
    ],
)  # fmt: skip
def test_one_input(op: str) -> None:
    version = 20 if op.startswith("Gelu") else 17
    model = ir.from_onnx_text(
        f'<ir_version: 9, opset_import: ["" : {version}]> g (float[2,3,4] x) => (float y) {{ y = {op}(x) }}'
    )
    model.graph.outputs[0].shape = None
    for number, node in enumerate(model.graph):
        node.name = f"node_{number}"
    check(graph.infer_shapes(model), {"x": random(2, 3, 4)})


@pytest.mark.parametrize(
    "op",
    [
        "Relu",
        "LeakyRelu<alpha=0.1>",
        "Abs",
        "HardSwish",
        "HardSigmoid<alpha=0.25>",
        "GlobalMaxPool",
        "MaxPool<kernel_shape=[2,2]>",
        "MaxPool<kernel_shape=[3,3],strides=[1,1],pads=[1,1,1,1]>",
    ],
)
def test_one_input_with_kinks(op: str) -> None:
    """Values lie farther from kinks, and from each other, than the step reaches."""
    x = np.random.default_rng(0).permutation((np.arange(96) - 47.5) * 0.12).reshape(2, 3, 4, 4).astype(np.float32)
    model = build(f"g (float[2,3,4,4] x) => (float[a,b,c,d] y) {{ y = {op}(x) }}")
    check(model, {"x": x})


@pytest.mark.parametrize("op", ["Sqrt", "Log", "Reciprocal"])
def test_positive_inputs(op: str) -> None:
    check(build(f"g (float[3,5] x) => (float[3,5] y) {{ y = {op}(x) }}"), {"x": random(3, 5, low=1, high=3)})


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
@pytest.mark.parametrize("shape", [(4, 1), (1,), (2, 3, 4, 5), (3, 1, 5)])
def test_two_inputs_that_broadcast(op: str, shape: tuple[int, ...]) -> None:
    w = random(*shape, low=0.9, high=1.4)
    model = build(f"g (float[2,3,4,5] x) => (float[2,3,4,5] y) {{ y = {op}(x, w) }}", w=w)
    x = random(2, 3, 4, 5)
    check(model, {"x": np.where(np.abs(x - 1.15) < 0.6, x + 1.5, x).astype(np.float32)}, tolerance=6e-3)


def test_the_same_value_read_twice() -> None:
    check(build("g (float[3,5] x) => (float[3,5] y) { s = Sigmoid(x) y = Mul(x, s) }"), {"x": random(3, 5)})
    text = "g (float[3,5] x) => (float[3,5] y) { s = Sigmoid(x) a = Mul(s, x) y = Mul(a, s) }"
    check(build(text), {"x": random(3, 5)})


@pytest.mark.parametrize(
    ("conv", "x", "w"),
    [
        ("Conv<pads=[1,1,1,1]>(x, w, b)", (2, 4, 6, 5), (3, 4, 3, 3)),
        ("Conv<strides=[2,2],pads=[1,1,1,1]>(x, w, b)", (2, 4, 6, 5), (3, 4, 3, 3)),
        ("Conv<strides=[2,1],pads=[0,1,2,1],dilations=[1,2]>(x, w, b)", (1, 3, 7, 9), (4, 3, 3, 3)),
        ("Conv<pads=[2,0,1,1],dilations=[2,1]>(x, w, b)", (2, 4, 7, 5), (3, 4, 3, 3)),
        ("Conv<pads=[1,0,1,1,1,0]>(x, w, b)", (2, 3, 3, 4, 3), (2, 3, 3, 2, 2)),
        ("Conv<pads=[2,2]>(x, w, b)", (2, 4, 9), (3, 4, 3)),
        ("Conv(x, w, b)", (2, 4, 3, 3), (6, 4, 1, 1)),
        ("Conv<strides=[2,2]>(x, w, b)", (2, 4, 6, 6), (6, 4, 1, 1)),
        ("Conv<group=4,pads=[1,1,1,1],strides=[2,2]>(x, w, b)", (2, 4, 6, 6), (4, 1, 3, 3)),
        ("Conv<group=2,pads=[2,2,2,2],strides=[3,3]>(x, w, b)", (2, 4, 7, 7), (6, 2, 5, 5)),
        ("Conv<group=2>(x, w, b)", (2, 32, 4, 4), (32, 16, 3, 3)),
        ('Conv<auto_pad="SAME_UPPER",strides=[2,2]>(x, w, b)', (1, 3, 6, 6), (4, 3, 3, 3)),
        ('Conv<auto_pad="SAME_LOWER",strides=[2,2]>(x, w, b)', (1, 3, 6, 6), (4, 3, 3, 3)),
        ("Conv<strides=[2],pads=[1,1]>(x, w, b)", (2, 4, 9), (3, 4, 3)),
    ],
)
def test_convolution(conv: str, x: tuple[int, ...], w: tuple[int, ...]) -> None:
    dims = ",".join(map(str, x))
    free = ",".join("abcd"[: len(x)])
    model = build(f"g (float[{dims}] x) => (float[{free}] y) {{ y = {conv} }}", w=normal(*w), b=normal(w[0]))
    check(model, {"x": random(*x)})


@pytest.mark.parametrize(
    ("attributes", "w"),
    [
        ("", (4, 3, 2, 2)),
        ("strides=[2,2]", (4, 3, 2, 2)),
        ("strides=[2,2],pads=[1,1,1,1],output_padding=[1,1]", (4, 3, 3, 3)),
        ("group=2,strides=[2,2]", (4, 3, 3, 3)),
        ("group=4", (4, 1, 3, 3)),
    ],
)
def test_transposed_convolution(attributes: str, w: tuple[int, ...]) -> None:
    groups = 2 if "group=2" in attributes else 4 if "group=4" in attributes else 1
    text = f"g (float[2,4,5,4] x) => (float[a,b,c,d] y) {{ y = ConvTranspose<{attributes}>(x, w, b) }}"
    check(build(text.replace("<>", ""), w=normal(*w), b=normal(w[1] * groups)), {"x": random(2, 4, 5, 4)})


@pytest.mark.parametrize("flip_a", [0, 1])
@pytest.mark.parametrize("flip_b", [0, 1])
def test_gemm(flip_a: int, flip_b: int) -> None:
    x, w = ((5, 3) if flip_a else (3, 5)), ((4, 5) if flip_b else (5, 4))
    text = f"y = Gemm<alpha=0.5,beta=2.0,transA={flip_a},transB={flip_b}>(x, w, b)"
    model = build(f"g (float[{x[0]},{x[1]}] x) => (float[3,4] y) {{ {text} }}", w=normal(*w), b=normal(4))
    check(model, {"x": random(*x)})


@pytest.mark.parametrize(
    ("product", "x", "w"),
    [
        ("MatMul(x, w)", (2, 3, 5), (5, 4)),
        ("MatMul(w, x)", (2, 5, 3), (4, 5)),
        ("MatMul(x, w)", (2, 3, 4, 5), (3, 5, 2)),
        ("MatMul(x, w)", (2, 1, 4, 5), (1, 3, 5, 2)),
    ],
)
def test_matmul(product: str, x: tuple[int, ...], w: tuple[int, ...]) -> None:
    dims, free = ",".join(map(str, x)), ",".join("abcd"[: len(x)])
    check(build(f"g (float[{dims}] x) => (float[{free}] y) {{ y = {product} }}", w=normal(*w)), {"x": random(*x)})


@pytest.mark.parametrize(
    "norm",
    [
        "LayerNormalization<axis=1>(x, s, b)",
        "InstanceNormalization(x, c, d)",
        "BatchNormalization(x, c, d, m, v)",
    ],
)
def test_norms(norm: str) -> None:
    weights = {"s": random(4, 3, 3), "b": random(4, 3, 3), "c": random(4), "d": random(4)}
    weights |= {"m": random(4), "v": random(4, low=0.5, high=2)}
    used = {name: w for name, w in weights.items() if f" {name}" in norm}
    model = build(f"g (float[2,4,3,3] x) => (float[2,4,3,3] y) {{ y = {norm} }}", **used)
    check(model, {"x": random(2, 4, 3, 3)})


@pytest.mark.parametrize(
    ("text", "integers"),
    [
        ("y = Reshape(x, i)", {"i": [2, 12]}),
        ("y = Slice(x, i, j, k)", {"i": [1], "j": [3], "k": [2]}),
        ("y = Slice(x, i, j, k)", {"i": [-1], "j": [-100], "k": [2]}),
        ("y = Slice(x, i, j, k, l)", {"i": [3], "j": [-100], "k": [2], "l": [-2]}),
        ("a, y = Split<axis=2>(x, i)", {"i": [1, 3]}),
        ("a, b = Split<axis=2>(x, i) y = Concat<axis=1>(b, x2)", {"i": [1, 3]}),
        ("y = Gather<axis=1>(x, i)", {"i": [2, 0, 2]}),
        ("y = Unsqueeze(x, i)", {"i": [1]}),
        ("y = Expand(x, i)", {"i": [5, 2, 3, 4]}),
        ("y = Tile(x, i)", {"i": [1, 2, 3]}),
        ("y = Pad(x, i)", {"i": [0, 1, 0, 0, 0, 2]}),
        ("y = ReduceSum<keepdims=0>(x, i)", {"i": [1]}),
        ("y = ReduceMean<axes=[-1]>(x)", {}),
    ],
)
def test_layout(text: str, integers: dict[str, list[int]]) -> None:
    if not any(integers.get("j", [0])) or integers.get("i") == [-1]:
        integers = {**integers, "j": [100]} if "j" in integers else integers
    given = {"x2": normal(2, 2, 3)} if "x2" in text else {}
    free = "float y"
    model = build(f"g (float[2,3,4] x) => ({free}) {{ {text} }}", integers=integers, **given)
    model.graph.outputs[0].shape = None
    check(graph.infer_shapes(model), {"x": random(2, 3, 4)})


@pytest.mark.parametrize(
    "text",
    [
        "y = GlobalAveragePool(x)",
        "y = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x)",
        "y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(x)",
        "y = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1],count_include_pad=1>(x)",
        "y = DepthToSpace<blocksize=2>(x)",
        "y = SpaceToDepth<blocksize=2>(x)",
        'y = Resize<mode="nearest",coordinate_transformation_mode="asymmetric",nearest_mode="floor">(x, none, s)',
    ],
)
def test_space(text: str) -> None:
    given = {"s": np.array([1, 1, 2, 2], np.float32)} if "Resize" in text else {}
    model = build(f"g (float[2,4,6,4] x) => (float[a,b,c,d] y) {{ {text.replace('none', '')} }}", **given)
    check(model, {"x": random(2, 4, 6, 4)})


def test_pow_and_where() -> None:
    text = "h = Pow(x, p) m = Greater(x, t) y = Where(m, h, x)"
    model = build(f"g (float[3,5] x) => (float[3,5] y) {{ {text} }}", p=np.array(2.0), t=np.array(0.0))
    work = graph.clone(model)
    assert work is not model
    x = random(3, 5)
    seed = ir.Value(name="seed", shape=ir.Shape([3, 5]), type=ir.TensorType(ir.DataType.FLOAT))
    model.graph.inputs.append(seed)
    found = backward(Tape(model.graph), {"y": seed}, {"x"})
    model.graph.outputs.append(found.of["x"])
    gradient = OnnxRuntime(1).load(graph.to_bytes(model)).run({"x": x, "seed": np.ones((3, 5), np.float32)})[1]
    np.testing.assert_allclose(gradient, np.where(x > 0, 2 * x, 1), rtol=1e-6, atol=0)


def test_an_operator_without_a_rule_is_named_and_stops_only_its_own_path() -> None:
    model = build("g (float[3,5] x) => (float[3,5] y) { r = Round(x) s = Sigmoid(x) y = Add(r, s) }")
    seed = ir.Value(name="seed", shape=ir.Shape([3, 5]), type=ir.TensorType(ir.DataType.FLOAT))
    model.graph.inputs.append(seed)
    found = backward(Tape(model.graph), {"y": seed}, {"x"})
    assert found.stopped == {"node_0": "there is no gradient of Round"}
    assert set(found.of) == {"x"}


def test_quantization_is_straight_through_inside_its_range() -> None:
    model = build(
        "g (float[6] x) => (float[6] y) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
        s=np.array(0.01),
    )
    zero = ir.tensor(np.array(10, np.uint8), name="z")
    value = ir.Value(name="z", shape=ir.Shape([]), type=ir.TensorType(ir.DataType.UINT8), const_value=zero)
    for node in model.graph:
        node.replace_input_with(2, value)
    model.graph.initializers["z"] = value
    model.graph.inputs[:] = [v for v in model.graph.inputs if v.name != "z"]
    seed = ir.Value(name="seed", shape=ir.Shape([6]), type=ir.TensorType(ir.DataType.FLOAT))
    model.graph.inputs.append(seed)
    for node in model.graph:
        node.outputs[0].dtype = ir.DataType.UINT8 if node.op_type == "QuantizeLinear" else ir.DataType.FLOAT
        node.outputs[0].shape = ir.Shape([6])
    found = backward(Tape(model.graph), {"y": seed}, {"x"})
    model.graph.outputs.append(found.of["x"])
    x = np.array([-1.0, -0.11, -0.05, 0.0, 2.4, 2.6], np.float32)
    gradient = OnnxRuntime(1).load(graph.to_bytes(model)).run({"x": x, "seed": np.ones(6, np.float32)})[1]
    np.testing.assert_array_equal(gradient, [0, 0, 1, 1, 1, 0])


def test_every_rule_is_named_after_an_operator() -> None:
    import onnx

    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    assert set(RULES) <= known
