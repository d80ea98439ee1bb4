"""Damaged files through whole commands: an exit code and one sentence, never a traceback or an internal error."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, external_data_helper, numpy_helper

from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 3, 12, 12] image) => (float[n, 5] logits)
{ a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(image, w1)
  b = BatchNormalization(a, scale, shift, mean, variance)
  c = Relu(b)
  tokens = Reshape(c, rows)
  turned = Transpose<perm = [0, 2, 1]>(tokens)
  q = MatMul(turned, w2)
  k = MatMul(turned, w3)
  kt = Transpose<perm = [0, 2, 1]>(k)
  scores = MatMul(q, kt)
  weights = Softmax<axis = -1>(scores)
  mixed = MatMul(weights, turned)
  both = Concat<axis = -1>(mixed, q)
  part, rest = Split<axis = -1>(both, parts)
  mean_token = ReduceMean<axes = [1], keepdims = 0>(part)
  logits = Gemm<transB = 1>(mean_token, w4, bias) }
"""
SHAPES = {"w1": (16, 3, 3, 3), "w2": (16, 16), "w3": (16, 16), "w4": (5, 24), "bias": (5,)}
VECTORS = {"scale": 1.0, "shift": 0.1, "mean": 0.1, "variance": 1.0}
INTEGERS = {"rows": [0, 16, 36], "parts": [24, 8]}
COMMANDS = (
    ("inspect", "{model}"),
    ("prune", "{model}", "--ratio", "0.5", "--no-compensate", "-o", "{out}"),
    ("predict", "{model}", "--target", "orin"),
)
TYPES = (TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL, TensorProto.FLOAT16, 0, 99)


def sound() -> onnx.ModelProto:
    """A convolution, attention, and most kinds of nodes that move positions."""
    model = onnx.parser.parse_model(NET)
    values = np.random.default_rng(0)
    arrays = {name: values.standard_normal(shape).astype(np.float32) * 0.2 for name, shape in SHAPES.items()}
    arrays |= {name: np.full(16, number, np.float32) for name, number in VECTORS.items()}
    arrays |= {name: np.asarray(numbers) for name, numbers in INTEGERS.items()}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def no_nodes(m: onnx.ModelProto, r: random.Random) -> None:
    del m.graph.node[:]


def no_graph(m: onnx.ModelProto, r: random.Random) -> None:
    m.ClearField("graph")


def cyclic(m: onnx.ModelProto, r: random.Random) -> None:
    node = r.choice(m.graph.node[:8])
    node.input[0] = r.choice(m.graph.node[8:]).output[0]


def no_weight(m: onnx.ModelProto, r: random.Random) -> None:
    del m.graph.initializer[r.randrange(len(m.graph.initializer))]


def weight_of_another_type(m: onnx.ModelProto, r: random.Random) -> None:
    r.choice(m.graph.initializer).data_type = r.choice(TYPES)


def weight_of_another_shape(m: onnx.ModelProto, r: random.Random) -> None:
    tensor = r.choice(m.graph.initializer)
    tensor.dims[r.randrange(len(tensor.dims))] = r.choice([0, -1, 1, 7, 1 << 40])


def short_weight(m: onnx.ModelProto, r: random.Random) -> None:
    tensor = r.choice(m.graph.initializer)
    tensor.raw_data = tensor.raw_data[: r.randrange(len(tensor.raw_data))]


def other_numbers(m: onnx.ModelProto, r: random.Random) -> None:
    tensor = r.choice([t for t in m.graph.initializer if t.name in INTEGERS])
    array = numpy_helper.to_array(tensor) * r.choice([-1, 0, 2, 1 << 40]) + r.choice([0, 1])
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def input_of_another_type(m: onnx.ModelProto, r: random.Random) -> None:
    m.graph.input[0].type.tensor_type.elem_type = r.choice(TYPES)


def input_of_another_shape(m: onnx.ModelProto, r: random.Random) -> None:
    dims = m.graph.input[0].type.tensor_type.shape.dim
    if r.random() < 0.5:
        del dims[r.randrange(len(dims))]
    else:
        dims[r.randrange(len(dims))].dim_value = r.choice([-5, 0, 1, 1 << 50])


def unknown_operator(m: onnx.ModelProto, r: random.Random) -> None:
    node = r.choice(m.graph.node)
    node.op_type, node.domain = r.choice([("Konv", ""), ("Relu", "nobody"), ("", "")])


def attribute_of_another_type(m: onnx.ModelProto, r: random.Random) -> None:
    node = r.choice([node for node in m.graph.node if node.attribute])
    name = node.attribute[0].name
    del node.attribute[0]
    node.attribute.append(onnx.helper.make_attribute(name, r.choice([2.5, "same", [1, 2], [7, 7, 7, 7, 7], -9])))


def no_operand(m: onnx.ModelProto, r: random.Random) -> None:
    node = r.choice(m.graph.node)
    del node.input[r.randrange(len(node.input))]


def same_output_twice(m: onnx.ModelProto, r: random.Random) -> None:
    r.choice(m.graph.node).output[0] = m.graph.node[0].output[0]


def other_opset(m: onnx.ModelProto, r: random.Random) -> None:
    m.opset_import[0].version = r.choice([0, -3, 1, 5, 9, 999])


DAMAGE: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    *(no_nodes, no_graph, cyclic, no_weight, weight_of_another_type, weight_of_another_shape, short_weight),
    *(other_numbers, input_of_another_type, input_of_another_shape, unknown_operator, attribute_of_another_type),
    *(no_operand, same_output_twice, other_opset),
)


def damaged(seed: int, path: Path) -> str:
    """Write a model with one damage, chosen by the seed; returns what was done."""
    r, model = random.Random(seed), sound()
    kinds = [*DAMAGE, None, None, None]
    damage = kinds[seed % len(kinds)]
    if damage is not None:
        damage(model, r)
        path.write_bytes(model.SerializeToString())
        return damage.__name__
    what = ("truncated", "bits flipped", "external data")[(seed // len(kinds)) % 3]
    if what == "external data":
        external_data_helper.convert_model_to_external_data(model, location="w.bin", size_threshold=16)
        onnx.save(model, path)
        data = path.with_name("w.bin")
        r.choice([data.unlink, lambda: data.write_bytes(data.read_bytes()[:99]), lambda: data.write_bytes(b"")])()
        return what
    whole = bytearray(model.SerializeToString())
    if what == "truncated":
        path.write_bytes(whole[: r.randrange(len(whole))])
        return what
    for _ in range(r.choice([1, 4, 30])):
        whole[r.randrange(len(whole))] ^= 1 << r.randrange(8)
    path.write_bytes(whole)
    return what


@pytest.mark.parametrize("seed", range(36))
def test_a_damaged_file_ends_in_one_sentence(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "m.onnx", tmp_path / "out"
    what = damaged(seed, path)
    for number, command in enumerate(COMMANDS):
        arguments = [word.format(model=path, out=f"{out}{number}") for word in command]
        with pytest.raises(SystemExit) as exited:
            cli_support.run_and_exit(cli, [*arguments, "--quiet"])
        said = capsys.readouterr()
        code = int(str(exited.value.code))
        assert code in (0, 2, 3, 5), f"{what}: {said.err}"
        assert not any(word in said.err for word in ("Traceback", "internal error")), f"{what}: {said.err}"
        if code:
            assert said.err.startswith("edgeprune: ")
            assert said.err.count("\n") == 1
            assert not Path(f"{out}{number}").exists()
