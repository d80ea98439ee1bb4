"""`edgeprune prune` from file to file on many kinds of models, each checked by two oracles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from edgeprune.compiler import prune_model
from edgeprune.dependency.solve import analyse
from edgeprune.errors import ModelError
from edgeprune.graph import model_io as graph
from edgeprune.testing import oracle as testing
from tests import oracle

Shapes = Mapping[str, tuple[int, ...]]


def build(text: str, weights: Shapes, *, opset: int = 17, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """A model of one graph text with seeded weights of one type."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{text}')
    random = np.random.default_rng(0)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    for name, shape in weights.items():
        values = random.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1))
        model.graph.initializer.append(numpy_helper.from_array(values.astype(dtype), name))
    return model


def prune(model: onnx.ModelProto, folder: Path) -> Path:
    """Save a model, prune half of it, and return the output folder."""
    onnx.save(model, folder / "net.onnx")
    return prune_file(folder / "net.onnx")


def prune_file(net: Path) -> Path:
    out = net.parent / "out"
    with pytest.raises(SystemExit) as left:
        cli_support.run_and_exit(cli, ["prune", str(net), "--ratio", "0.5", "--no-compensate", "-q", "-o", str(out)])
    assert left.value.code == 0
    return out


def sizes(out: Path) -> dict[str, tuple[int, ...]]:
    """Initializer of the pruned model -> shape."""
    return {t.name: tuple(t.dims) for t in onnx.load(out / "model.onnx").graph.initializer}


def check(out: Path, tolerance: float, run: oracle.Runner = oracle.in_onnxruntime) -> None:
    """Both oracles: one that uses only the written files, and that of edgeprune.testing on the dense model and plan."""
    assert oracle.error(out, run) <= tolerance
    if run is oracle.in_onnxruntime:
        dense = graph.infer_shapes(graph.load(out / "dense.onnx"))
        cut = {g["id"]: np.asarray(g["kept"]) for g in oracle.plan_of(out)["groups"] if len(g["kept"]) < g["size"]}
        assert cut
        assert testing.error(dense, analyse(dense), cut) <= tolerance


CONVOLUTIONS = """net ({t}[1,3,8,8] x) => ({t}[1,5] y) {{
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)
    b = Relu(a)
    c = Conv<pads=[1,1,1,1]>(b, w2, b2)
    d = Add(b, c)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    y = Gemm<transB=1>(f, w3, b3)
}}"""
CONVOLUTION_WEIGHTS = {
    "w1": (32, 3, 3, 3),
    "b1": (32,),
    "w2": (32, 32, 3, 3),
    "b2": (32,),
    "w3": (5, 32),
    "b3": (5,),
}
CONVOLUTION_SIZES = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,), "w3": (5, 16), "b3": (5,)}


def test_half_precision(tmp_path: Path) -> None:
    out = prune(build(CONVOLUTIONS.format(t="float16"), CONVOLUTION_WEIGHTS, kind=TensorProto.FLOAT16), tmp_path)
    check(out, 0.02)  # 11 bits; sums over half as many terms have other rounding errors
    assert sizes(out) == CONVOLUTION_SIZES
    kinds = {t.data_type for t in onnx.load(out / "model.onnx").graph.initializer}
    assert kinds == {TensorProto.FLOAT16}


BFLOAT16 = """net ({t}[{n},6,8] x) => ({t}[{n},6,5] y) {{
    h = Cast<to=16>(x)
    [first] a = MatMul(h, w1)
    b = Add(a, b1)
    c = Relu(b)
    d = MatMul(c, w2)
    y = Cast<to={to}>(d)
}}"""


def bfloat16(*, outside: bool = True, batch: int | str = 1) -> onnx.ModelProto:
    """A model in bfloat16; with ``outside``, its input and output, too."""
    t, to = ("bfloat16", TensorProto.BFLOAT16) if outside else ("float", TensorProto.FLOAT)
    weights = {"w1": (8, 32), "b1": (32,), "w2": (32, 5)}
    return build(BFLOAT16.format(t=t, to=to, n=batch), weights, kind=TensorProto.BFLOAT16)


@pytest.mark.parametrize(("outside", "batch"), [(True, 1), (True, "n"), (False, 1)])
def test_data_runs_through_the_float32_form_of_bfloat16(outside: bool, batch: int | str, tmp_path: Path) -> None:
    onnx.save(bfloat16(outside=outside, batch=batch), tmp_path / "net.onnx")
    random = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=random.standard_normal((16, 6, 8)).astype(np.float32))
    agreement = []
    for compensate in (False, True):
        out = tmp_path / f"out{compensate}"
        report = prune_model(
            tmp_path / "net.onnx", 0.5, calibration=tmp_path / "data.npz", out=out, compensate=compensate
        )
        pruned = onnx.load(out / "model.onnx")
        assert sizes(out) == {"w1": (8, 16), "b1": (16,), "w2": (16, 5)}
        assert {t.data_type for t in pruned.graph.initializer} == {TensorProto.BFLOAT16}
        kind = TensorProto.BFLOAT16 if outside else TensorProto.FLOAT
        ends = [*pruned.graph.input, *pruned.graph.output]
        assert {v.type.tensor_type.elem_type for v in ends} == {kind}
        assert [n.op_type for n in pruned.graph.node].count("Cast") == (0 if outside else 2)
        assert report.accuracy is not None
        agreement.append(report.accuracy.after)
        if not compensate:
            check(out, 0.05, oracle.by_reference)  # 8 bits
    assert agreement[1] > agreement[0] + 1


def test_no_data_runs_through_bfloat16_without_a_float32_form(tmp_path: Path) -> None:
    model = bfloat16()
    model.opset_import.add(domain="people", version=1)
    model.graph.node[0].domain, model.graph.node[0].op_type = "people", "Keep"
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.ones((4, 6, 8), np.float32))
    with pytest.raises(ModelError, match=r"input 'x' is bfloat16, .*float32; `prune` takes it without data"):
        prune_model(tmp_path / "net.onnx", 0.5, calibration=tmp_path / "data.npz", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bfloat16(tmp_path: Path) -> None:
    out = prune(bfloat16(), tmp_path)
    assert sizes(out) == {"w1": (8, 16), "b1": (16,), "w2": (16, 5)}
    dense, pruned = (onnx.load(out / name) for name in ("dense.onnx", "model.onnx"))
    assert {t.data_type for t in pruned.graph.initializer} == {TensorProto.BFLOAT16}
    plan = oracle.plan_of(out)["initializers"]
    before = {t.name: numpy_helper.to_array(t) for t in dense.graph.initializer}
    for tensor in pruned.graph.initializer:
        want = before[tensor.name]
        for axis, entry in plan[tensor.name].items():
            want = np.take(want, entry["kept"], axis=int(axis))
        assert numpy_helper.to_array(tensor).tobytes() == np.ascontiguousarray(want).tobytes()
    check(out, 0.05, oracle.by_reference)  # 8 bits


def test_opset_7(tmp_path: Path) -> None:
    text = """net (float[1,3,8,8] x) => (float[1,5] y) {
        a = Conv<pads=[1,1,1,1]>(x, w1)
        n = BatchNormalization<epsilon=0.01>(a, s, b, m, v)
        r = Clip<min=0.0, max=6.0>(n)
        d = Dropout<ratio=0.5>(r)
        u = Upsample<mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]>(d)
        p = Pad<mode="constant", pads=[0,0,1,1,0,0,1,1]>(u)
        c = Conv(p, w2)
        i, j = Split<axis=1, split=[16,16]>(c)
        t = Concat<axis=1>(j, i)
        k = ReduceMean<axes=[2,3], keepdims=0>(t)
        g = Unsqueeze<axes=[2]>(k)
        h = Squeeze<axes=[2]>(g)
        q = Gemm(h, w3, b3)
        y = Softmax<axis=1>(q)
    }"""
    weights = {"w1": (32, 3, 3, 3), "w2": (32, 32, 3, 3), "w3": (32, 5), "b3": (5,)}
    model = build(text, weights | dict.fromkeys("sbm", (32,)), opset=7)
    model.graph.initializer.append(numpy_helper.from_array(np.linspace(0.5, 2, 32, dtype=np.float32), "v"))
    out = prune(model, tmp_path)
    check(out, 1e-4)
    assert {(16, 3, 3, 3), (16, 16, 3, 3)} <= set(sizes(out).values())


def test_the_oracle_detects_units_that_were_not_zeroed(tmp_path: Path) -> None:
    out = prune(build(CONVOLUTIONS.format(t="float"), CONVOLUTION_WEIGHTS), tmp_path)
    check(out, 1e-4)
    plan = oracle.plan_of(out)
    for entry in plan["initializers"].values():
        for axis in entry.values():
            axis["role"] = "pointwise"
    (out / "plan.json").write_text(json.dumps(plan))
    assert oracle.error(out) > 0.1


def quantized() -> onnx.ModelProto:
    """Two quantized layers, with a scale and zero point for every channel of the first."""
    random = np.random.default_rng(0)
    model = build(
        """net (float[1,3,8,8] x) => (float[1,4,8,8] y) {
            qx = QuantizeLinear(x, sx, zx)
            dx = DequantizeLinear(qx, sx, zx)
            d1 = DequantizeLinear<axis=0>(w1, s1, z1)
            e1 = DequantizeLinear<axis=0>(b1, t1)
            h = Conv<pads=[1,1,1,1]>(dx, d1, e1)
            r = Relu(h)
            qh = QuantizeLinear(r, sh, zh)
            dh = DequantizeLinear(qh, sh, zh)
            d2 = DequantizeLinear<axis=0>(w2, s2, z2)
            y = Conv(dh, d2)
        }""",
        {},
    )
    constants: dict[str, NDArray[Any]] = {
        "sx": np.float32(0.03),
        "zx": np.uint8(120),
        "sh": np.float32(0.02),
        "zh": np.uint8(0),
        "w1": random.integers(-127, 128, (32, 3, 3, 3)).astype(np.int8),
        "s1": (0.001 + 0.001 * random.random(32)).astype(np.float32),
        "z1": np.zeros(32, np.int8),
        "b1": random.integers(-500, 500, 32).astype(np.int32),
        "w2": random.integers(-127, 128, (4, 32, 1, 1)).astype(np.int8),
        "s2": (0.001 + 0.001 * random.random(4)).astype(np.float32),
        "z2": np.zeros(4, np.int8),
    }
    constants["t1"] = (constants["s1"] * constants["sx"]).astype(np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items())
    return model


def test_quantized(tmp_path: Path) -> None:
    out = prune(quantized(), tmp_path)
    check(out, 1e-4)
    have = sizes(out)
    assert (have["w1"], have["w2"]) == ((16, 3, 3, 3), (4, 16, 1, 1))
    assert [have[name] for name in ("s1", "z1", "b1", "t1", "s2")] == [(16,)] * 4 + [(4,)]
    cuts = oracle.plan_of(out)["initializers"]
    kept = cuts["w1"]["0"]["kept"]
    assert all(cuts[name]["0"]["kept"] == kept for name in ("s1", "z1", "b1", "t1"))
    after = {t.name: numpy_helper.to_array(t) for t in onnx.load(out / "model.onnx").graph.initializer}
    before = {t.name: numpy_helper.to_array(t) for t in quantized().graph.initializer}
    for name in ("w1", "s1", "b1", "t1"):
        np.testing.assert_array_equal(after[name], before[name][kept])


def test_lstm(tmp_path: Path) -> None:
    text = """net (float[7,1,8] x) => (float[7,1,3] y) {
        a, b, c = LSTM<hidden_size=32>(x, w, r, bias)
        s = Squeeze(a, axes)
        y = MatMul(s, head)
    }"""
    shapes = {"w": (1, 128, 8), "r": (1, 128, 32), "bias": (1, 256), "head": (32, 3)}
    model = build(text, shapes)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    out = prune(model, tmp_path)
    check(out, 1e-4)
    have = sizes(out)
    assert {name: have[name] for name in shapes} == {
        "w": (1, 64, 8),
        "r": (1, 64, 16),
        "bias": (1, 128),
        "head": (16, 3),
    }
    (lstm,) = (node for node in onnx.load(out / "model.onnx").graph.node if node.op_type == "LSTM")
    assert {a.name: a.i for a in lstm.attribute}["hidden_size"] == 16


@pytest.mark.parametrize("captured", ["value", "weight"])
def test_a_branch_that_captures(captured: str, tmp_path: Path) -> None:
    outer = {"value": "h", "weight": "scale"}[captured]
    text = f"""net (float[1,8] x, bool yes) => (float[1,5] y) {{
        h0 = MatMul(x, w1)
        h = Relu(h0)
        c = If(yes) <
            then_branch = then_graph () => (float[1,32] t) {{ t = Mul({outer}, h) }},
            else_branch = else_graph () => (float[1,32] e) {{ e = Neg({outer}) }}
        >
        k = MatMul(c, w2)
        l = Relu(k)
        y = MatMul(l, w3)
    }}"""
    weights = {"w1": (8, 32), "scale": (1, 32), "w2": (32, 32), "w3": (32, 5)}
    if captured == "value":
        del weights["scale"]
    out = prune(build(text, weights), tmp_path)
    check(out, 1e-4)
    have = sizes(out)
    assert (have["w1"], have["w2"], have["w3"]) == ((8, 32), (32, 16), (16, 5))
    dense = graph.infer_shapes(graph.load(out / "dense.onnx"))
    (branching,) = (node.name for node in dense.graph if node.op_type == "If")
    assert analyse(dense).why("w1", 1)[-1].node == branching


def test_external_data(tmp_path: Path) -> None:
    model = build(CONVOLUTIONS.format(t="float"), CONVOLUTION_WEIGHTS)
    net = tmp_path / "net.onnx"
    onnx.save(model, net, save_as_external_data=True, location="weights.bin", size_threshold=0)
    out = prune_file(net)
    check(out, 1e-4)
    assert sizes(out) == CONVOLUTION_SIZES
    assert not [
        t.name for t in onnx.load(out / "model.onnx", load_external_data=False).graph.initializer if t.external_data
    ]
