from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.errors import ModelError, UsageError
from edgeprune.graph import model_io as graphs

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[batch, 3, 8, 8] x) => (float[batch, 4, 8, 8] y) {
    h = Conv<pads=[1, 1, 1, 1]>(x, w)
    y = Relu(h)
}
"""


@pytest.fixture
def proto() -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT)
    weight = np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return model


def write(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def write_external(proto: onnx.ModelProto, path: Path, location: str = "w.bin", **fields: Any) -> Path:
    """A model whose weight lies in a file of its own."""
    tensor = proto.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": 0, "length": len(raw), **fields}.items():
        tensor.external_data.add(key=key, value=str(value))
    (path.parent / "w.bin").write_bytes(raw)
    return write(proto, path)


def weight(model: ir.Model) -> np.ndarray:
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    return tensor.numpy()


def test_loads_what_it_saves(proto: onnx.ModelProto, tmp_path: Path) -> None:
    model = graphs.load(write(proto, tmp_path / "a.onnx"))
    graphs.save(model, tmp_path / "b.onnx")
    again = graphs.load(tmp_path / "b.onnx")
    np.testing.assert_array_equal(weight(again), weight(model))
    assert [node.op_type for node in again.graph] == ["Conv", "Relu"]
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "b.onnx"}


def test_external_data_round_trip(proto: onnx.ModelProto, tmp_path: Path) -> None:
    model = graphs.load(write_external(proto, tmp_path / "a.onnx"))
    assert isinstance(model.graph.initializers["w"].const_value, ir.ExternalTensor)
    expected = np.arange(108, dtype=np.float32).reshape(4, 3, 3, 3)
    np.testing.assert_array_equal(weight(model), expected)

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    graphs.save(model, folder / "inside.onnx")
    graphs.save(model, folder / "outside.onnx", external_data=True)
    (tmp_path / "w.bin").unlink()
    assert {path.name for path in folder.iterdir()} == {"inside.onnx", "outside.onnx", "outside.onnx.data"}
    for name in ("inside.onnx", "outside.onnx"):
        np.testing.assert_array_equal(weight(graphs.load(folder / name)), expected)


def test_bytes_hold_external_weights(proto: onnx.ModelProto, tmp_path: Path) -> None:
    model = graphs.load(write_external(proto, tmp_path / "a.onnx"))
    embedded = onnx.load_from_string(graphs.to_bytes(model)).graph.initializer[0]
    assert len(embedded.raw_data) == 108 * 4
    assert isinstance(model.graph.initializers["w"].const_value, ir.ExternalTensor), "the model itself is not changed"


def test_too_large_for_bytes(proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = graphs.load(write(proto, tmp_path / "a.onnx"))
    monkeypatch.setattr(graphs, "EXTERNAL_DATA_BYTES", 100)
    with pytest.raises(ModelError, match="do not fit in one protobuf"):
        graphs.to_bytes(model)
    graphs.save(model, tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx.data").stat().st_size == 108 * 4


def test_weights_from_a_file_go_to_a_file(
    proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = graphs.load(write(proto, tmp_path / "b.onnx"))
    external = graphs.load(write_external(proto, tmp_path / "a.onnx"))
    monkeypatch.setattr(graphs, "_KEPT_OUTSIDE_BYTES", 100)
    for name, model in (("c.onnx", external), ("d.onnx", embedded)):
        graphs.save(model, tmp_path / name)
    assert (tmp_path / "c.onnx.data").stat().st_size == 108 * 4
    assert not (tmp_path / "d.onnx.data").exists()
    np.testing.assert_array_equal(weight(graphs.load(tmp_path / "c.onnx")), weight(embedded))


def test_references_leave_the_weights_where_they_are(proto: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="are not in one folder"):
        graphs.to_references(graphs.load(write(proto, tmp_path / "b.onnx")))
    data, folder = graphs.to_references(graphs.load(write_external(proto, tmp_path / "a.onnx")))
    assert folder == tmp_path
    assert onnx.load_from_string(data).graph.initializer[0].data_location == onnx.TensorProto.EXTERNAL


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an ONNX model: it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "get the file by `git lfs pull`"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), "is not an ONNX model"),
        (b"import torch\n" * 20, "is not an ONNX model"),
    ],
)
def test_not_onnx(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        graphs.load(path)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9, 0.99])
def test_truncated(fraction: float, proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    data = proto.SerializeToString()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(ModelError, match="truncated"):
        graphs.load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*No such file"):
        graphs.load(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("gone.bin", "is missing"),
        ("../w.bin", "outside the model's folder"),
        ("/etc/hostname", "outside the model's folder"),
        ("C:\\w.bin", "outside the model's folder"),
        ("inner/../../w.bin", "outside the model's folder"),
        ("", "outside the model's folder"),
    ],
)
def test_external_data_elsewhere(location: str, message: str, proto: onnx.ModelProto, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(432))
    with pytest.raises(ModelError, match=message):
        graphs.load(write_external(proto, folder / "m.onnx", location=location))


def test_external_data_by_a_link_out(proto: onnx.ModelProto, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(432))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="link to outside the model's folder"):
        graphs.load(write_external(proto, folder / "m.onnx", location="link.bin"))


def test_external_data_by_a_hard_link(proto: onnx.ModelProto, tmp_path: Path) -> None:
    path = write_external(proto, tmp_path / "m.onnx")
    os.link(tmp_path / "w.bin", tmp_path / "second.bin")
    with pytest.raises(ModelError, match="several hard links"):
        graphs.load(path)


@pytest.mark.parametrize("fields", [{"offset": 8}, {"length": 4}, {"offset": -1}, {"offset": "x"}])
def test_external_data_too_short(fields: dict[str, Any], proto: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is damaged: tensor 'w' needs 432 bytes"):
        graphs.load(write_external(proto, tmp_path / "m.onnx", **fields))


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize(("value", "message"), [(np.nan, "'w' contains NaN"), (-np.inf, "'w' contains infinities")])
def test_weights_that_are_no_numbers(
    value: float, message: str, external: bool, proto: onnx.ModelProto, tmp_path: Path
) -> None:
    array = np.ones((4, 3, 3, 3), np.float32)
    array[3, 2, 2, 2] = value
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, "w"))
    with pytest.raises(ModelError, match=message):
        graphs.load((write_external if external else write)(proto, tmp_path / "m.onnx"))


def test_masks_may_hold_infinities(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[2] x) => (float[2] y) { y = Add(x, w) }'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, -np.inf], np.float32), "w"))
    graphs.load(write(proto, tmp_path / "m.onnx"))


def test_an_invalid_graph_is_refused(proto: onnx.ModelProto, tmp_path: Path) -> None:
    proto.graph.node[1].op_type = "Swoosh"
    with pytest.raises(ModelError, match=r"m\.onnx is not a valid ONNX model: .*Swoosh"):
        graphs.load(write(proto, tmp_path / "m.onnx"))


def test_nodes_are_sorted(proto: onnx.ModelProto, tmp_path: Path) -> None:
    first = proto.graph.node.pop(0)
    proto.graph.node.append(first)
    assert [node.op_type for node in graphs.load(write(proto, tmp_path / "m.onnx")).graph] == ["Conv", "Relu"]


def test_a_full_disk_leaves_nothing(proto: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = graphs.load(write(proto, tmp_path / "m.onnx"))
    (tmp_path / "old.onnx").write_text("as it was")

    def full(*arguments: object, **options: object) -> None:
        Path(str(arguments[1])).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ir, "save", full)
    with pytest.raises(UsageError, match="No space left on device"):
        graphs.save(model, tmp_path / "old.onnx")
    assert (tmp_path / "old.onnx").read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "old.onnx"}


def test_a_folder_that_is_not_there(proto: onnx.ModelProto, tmp_path: Path) -> None:
    model = graphs.load(write(proto, tmp_path / "m.onnx"))
    with pytest.raises(UsageError, match="cannot write"):
        graphs.save(model, tmp_path / "none" / "m.onnx")


def test_clone_is_independent(proto: onnx.ModelProto, tmp_path: Path) -> None:
    model = graphs.load(write(proto, tmp_path / "m.onnx"))
    copy = graphs.clone(model)
    copy.graph.node(1).op_type = "Sigmoid"
    copy.graph.inputs[0].shape = ir.Shape([1, 3, 8, 8])
    assert model.graph.node(1).op_type == "Relu"
    assert str(model.graph.inputs[0].shape) == "[batch,3,8,8]"
    assert copy.graph.initializers["w"].const_value is model.graph.initializers["w"].const_value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=1x3x48x320", ("x", (1, 3, 48, 320))),
        ("input:0=2,7", ("input:0", (2, 7))),
        ("a=b=4", ("a=b", (4,))),
    ],
)
def test_shape_option(text: str, expected: tuple[str, tuple[int, ...]]) -> None:
    assert graphs.parse_shape_option(text) == expected


@pytest.mark.parametrize("text", ["x", "x=", "=1x3", "x=1x0", "x=1x-3", "x=ax3", "x=1x3x"])
def test_malformed_shape_option(text: str) -> None:
    with pytest.raises(UsageError, match="expected NAME=1x3x48x320"):
        graphs.parse_shape_option(text)
