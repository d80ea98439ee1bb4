"""Files with odd or damaged declarations: read where the meaning is clear, else refused with one sentence."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx import helper as h
from onnx import numpy_helper as nh

from edgeprune import graph
from edgeprune.errors import ModelError
from edgeprune.passes.canonicalize import canonicalize

Damage = Callable[[onnx.ModelProto], object]


def small() -> onnx.ModelProto:
    weights = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    nodes = [h.make_node("Conv", ["x", "w"], ["c"], name="conv"), h.make_node("Relu", ["c"], ["y"], name="relu")]
    inputs = [h.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])]
    outputs = [h.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])]
    proto = h.make_graph(nodes, "small", inputs, outputs, [nh.from_array(weights, "w")])
    return h.make_model(proto, opset_imports=[h.make_opsetid("", 13)], ir_version=8)


def also_input(proto: onnx.ModelProto, dims: list[int]) -> None:
    proto.ir_version = 3
    proto.graph.input.append(h.make_tensor_value_info("w", TensorProto.FLOAT, dims))


def same_names(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.name = "n"


def unsorted(proto: onnx.ModelProto) -> None:
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))


READ: dict[str, Damage] = {
    "output without a shape": lambda m: m.graph.output[0].type.tensor_type.ClearField("shape"),
    "output without an element type": lambda m: m.graph.output[0].type.tensor_type.ClearField("elem_type"),
    "output without a type": lambda m: m.graph.output[0].ClearField("type"),
    "no graph name": lambda m: m.graph.ClearField("name"),
    "nodes of one name": same_names,
    "nodes out of order": unsorted,
    "a weight that nothing reads": lambda m: m.graph.initializer.append(nh.from_array(np.zeros(3), "unused")),
    "the same weight twice": lambda m: m.graph.initializer.append(deepcopy(m.graph.initializer[0])),
    "IR 3, weights listed as inputs": lambda m: also_input(m, [4, 3, 1, 1]),
    "opset 9": lambda m: setattr(m.opset_import[0], "version", 9),
    "opset 7": lambda m: setattr(m.opset_import[0], "version", 7),
}


@pytest.mark.parametrize("damage", READ.values(), ids=READ)
def test_read(damage: Damage, tmp_path: Path) -> None:
    proto = small()
    damage(proto)
    onnx.save(proto, tmp_path / "model.onnx")
    model = graph.load(tmp_path / "model.onnx")
    assert graph.warnings_of(model) == ()
    result = canonicalize(model)
    assert list(result.graph.outputs[0].shape or ()) == [1, 4, 4, 4]
    assert len({node.name for node in result.graph}) == len(list(result.graph)) == 2
    graph.save(result, tmp_path / "out.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)


def test_a_weight_declared_with_another_shape(tmp_path: Path) -> None:
    proto = small()
    also_input(proto, [4, 3, 3, 3])
    onnx.save(proto, tmp_path / "model.onnx")
    (warning,) = graph.warnings_of(canonicalize(graph.load(tmp_path / "model.onnx")))
    assert "the file declares the weight 'w' as [4, 3, 3, 3], but it is [4, 3, 1, 1]" in warning


def cut_bytes(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]


def twice_different(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(nh.from_array(np.zeros((4, 3, 1, 1), np.float32), "w"))


REFUSED: dict[str, tuple[Damage, str]] = {
    "input without an element type": (
        lambda m: m.graph.input[0].type.tensor_type.ClearField("elem_type"),
        "input 'x' has no element type",
    ),
    "input without a type": (lambda m: m.graph.input[0].ClearField("type"), "input 'x' has no element type"),
    "input without a shape": (
        lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
        "has an input 'x' without a shape: declare at least its rank",
    ),
    "a weight with too few bytes": (cut_bytes, "tensor 'w' needs 48 bytes, but has 44"),
    "two weights of one name": (twice_different, "two different weights 'w'"),
    "a weight without a type": (lambda m: setattr(m.graph.initializer[0], "data_type", 0), "no known element type"),
    "a weight with a negative size": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -4), "a negative size"),
    "a domain without an opset": (lambda m: setattr(m.graph.node[1], "domain", "my.ops"), "my.ops"),
    "two nodes that write one value": (lambda m: m.graph.node[0].output.__setitem__(0, "y"), "valid ONNX model"),
    "a node without its output": (lambda m: m.graph.node[0].output.__setitem__(0, ""), "valid ONNX model"),
    "an output that nothing computes": (lambda m: setattr(m.graph.output[0], "name", "z"), "'z'"),
    "opset 0": (lambda m: setattr(m.opset_import[0], "version", 0), "domain_version of 0"),
}


@pytest.mark.parametrize(("damage", "text"), REFUSED.values(), ids=REFUSED)
def test_refused(damage: Damage, text: str, tmp_path: Path) -> None:
    proto = small()
    damage(proto)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"model\.onnx") as caught:
        graph.load(tmp_path / "model.onnx")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_inference_cannot_read_is_refused_by_name(tmp_path: Path) -> None:
    proto = small()
    for name, values in {"starts": [0], "ends": [1, 2]}.items():
        proto.graph.initializer.append(nh.from_array(np.array(values, np.int64), name))
    proto.graph.node[1].CopyFrom(h.make_node("Slice", ["c", "starts", "ends"], ["y"], name="piece"))
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(ModelError, match="Slice piece: Incorrect or missing"):
        graph.load(tmp_path / "net.onnx")
