"""Declared shapes of computed values: what inference derives counts, and a contradiction is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto
from onnx import helper as h
from onnx import numpy_helper as nh

from edgeprune import graph
from edgeprune.passes.canonicalize import canonicalize


def computed_reshape(output: list[object] | None, inner: list[int] | None = None) -> onnx.ModelProto:
    """A Reshape to computed lengths that shape inference does not follow, and declarations of its result."""
    weights = np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32)
    constants = {"w": weights, "k": np.int64(0), "ax": np.array([0]), "rest": np.array([4, -1])}
    nodes = [
        h.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        h.make_node("Shape", ["c"], ["s"]),
        h.make_node("Gather", ["s", "k"], ["g"], axis=0),
        h.make_node("Unsqueeze", ["g", "ax"], ["u0"]),
        h.make_node("ReduceMax", ["u0"], ["u"], keepdims=1),
        h.make_node("Concat", ["u", "rest"], ["target"], axis=0),
        h.make_node("Reshape", ["c", "target"], ["r"], name="reshape"),
        h.make_node("Relu", ["r"], ["y"], name="relu"),
    ]
    proto = h.make_graph(
        nodes,
        "odd",
        [h.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [h.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [nh.from_array(np.asarray(array), name) for name, array in constants.items()],
        value_info=[] if inner is None else [h.make_tensor_value_info("r", TensorProto.FLOAT, inner)],
    )
    return h.make_model(proto, opset_imports=[h.make_opsetid("", 13)], ir_version=8)


def loaded(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    onnx.save(proto, folder / "model.onnx")
    return graph.load(folder / "model.onnx")


def declared_output(model: ir.Model, folder: Path) -> list[object]:
    """The output's sizes in the file that is written."""
    graph.save(model, folder / "out.onnx")
    written = onnx.load(folder / "out.onnx")
    onnx.checker.check_model(written, full_check=True)
    return [d.dim_value or d.dim_param or None for d in written.graph.output[0].type.tensor_type.shape.dim]


def test_an_output_without_a_shape_gets_the_inferred_one(tmp_path: Path) -> None:
    model = loaded(computed_reshape(None), tmp_path)
    assert len(declared_output(canonicalize(model), tmp_path)) == 3
    assert graph.warnings_of(model) == ()


def test_a_stale_declaration_inside_is_not_used(tmp_path: Path) -> None:
    result = canonicalize(loaded(computed_reshape(["N", 4, 16], inner=[1, 4, 16]), tmp_path))
    target = next(n for n in result.graph if n.name == "reshape").inputs[1]
    assert target is not None
    assert target.const_value is None or target.const_value.numpy()[0] != 1
    assert declared_output(result, tmp_path) == ["N", 4, 16]


def test_a_wrong_rank_is_told(tmp_path: Path) -> None:
    model = loaded(computed_reshape([1, "length"]), tmp_path)
    (warning,) = graph.warnings_of(model)
    assert "the file declares 'y' as [1, length], but the graph makes it [" in warning
    assert len(declared_output(canonicalize(model), tmp_path)) == 3


def test_a_wrong_size_is_told(tmp_path: Path) -> None:
    """It shows at the latest when the model is run."""
    result = canonicalize(loaded(computed_reshape(["N", 4, 7]), tmp_path))
    (warning,) = graph.warnings_of(result)
    assert "the file declares 'y' as [N, 4, 7], but" in warning
    assert declared_output(result, tmp_path)[2] in (None, 16) or isinstance(declared_output(result, tmp_path)[2], str)


def test_a_contradicted_value_inside_is_told(tmp_path: Path) -> None:
    proto = computed_reshape(["N", 4, 16])
    proto.graph.value_info.append(h.make_tensor_value_info("c", TensorProto.FLOAT, ["N", 5, 4, 4]))
    (warning,) = graph.warnings_of(loaded(proto, tmp_path))
    assert "'c' as [N, 5, 4, 4], but the graph makes it [N, 4, 4, 4]" in warning


@pytest.mark.parametrize("declared", [["N", 4, 16], [None, 4, "rest"]])
def test_a_fitting_declaration_stays_in_the_file(declared: list[object], tmp_path: Path) -> None:
    model = loaded(computed_reshape(declared), tmp_path)
    assert graph.warnings_of(model) == ()
    assert declared_output(canonicalize(model), tmp_path)[1] == 4
