from __future__ import annotations

import io
import tarfile

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.trtexec import Version
from edgeprune.backends.trtexec_outputs import input_files, output_arguments, output_files, read_outputs, spec_name
from edgeprune.errors import BackendError


def value(name: str, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype))


def written(*outputs: tuple[str, str, str]) -> str:
    """As trtexec's exportJSONOutput prints it."""
    rows = [f'{{ "name" : "{n}"\n  , "dimensions" : "{d}"\n  , "values" : [ {v} ]\n  }}' for n, d, v in outputs]
    return "[\n  " + "\n, ".join(rows) + "\n]\n"


def test_outputs_come_in_the_order_and_types_of_the_model():
    text = written(("b", "2", "1, 2"), ("a", "1x2x1", "0.5, -1e-06"))
    a, b = read_outputs(text, [value("a"), value("b", ir.DataType.INT64)])
    assert a.shape == (1, 2, 1)
    np.testing.assert_array_equal(a.reshape(-1), np.float32([0.5, -1e-6]))
    assert b.dtype == np.int64
    assert b.tolist() == [1, 2]


def test_values_that_are_no_json_are_read():
    (found,) = read_outputs(written(("y", "4", "nan, -nan, inf, -inf")), [value("y")])
    assert np.isnan(found[:2]).all()
    assert found[2:].tolist() == [np.inf, -np.inf]


def test_a_size_that_depends_on_the_data_is_the_final_one():
    said = "Final shape is 2x3 reported by the output allocator.\n1, 2, 3, 4, 5, 6"
    (found,) = read_outputs(written(("boxes", "-1x3", said)), [value("boxes")])
    assert found.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_scalars_and_empty_outputs():
    one, none = read_outputs(written(("s", "", "3"), ("e", "0x4", "")), [value("s"), value("e")])
    assert one.shape == ()
    assert none.shape == (0, 4)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (written(("other", "1", "1")), "has no output 'y'"),
        (written(("y", "2", "1")), "unknown form for 'y'"),
        (written(("y", "1", "one")), "unknown form for 'y'"),
        ("", "has no output 'y'"),
    ],
)
def test_another_form_is_refused_by_name(text: str, reason: str):
    with pytest.raises(BackendError, match=reason):
        read_outputs(text, [value("y")])


@pytest.mark.parametrize(("version", "stored"), [((8, 6), "<i4"), ((10, 3), "<i8"), ((11, 0), "<i8")])
def test_inputs_are_raw_values_in_the_type_of_the_engine(version: tuple[int, int], stored: str):
    feed = {"ids": np.array([3, -1]), "x": np.float32([[0.5]])}
    packed = input_files([feed, feed], ["x", "ids"], Version(*version))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert sorted(archive.getnames()) == ["f0/0.bin", "f0/1.bin", "f1/0.bin", "f1/1.bin"]
        x, ids = (archive.extractfile(f"f1/{k}.bin") for k in (0, 1))
        assert x is not None
        assert ids is not None
        assert x.read() == np.float32([0.5]).tobytes()
        assert ids.read() == np.array([3, -1], stored).tobytes()


def test_an_input_that_32_bits_do_not_hold_is_refused():
    with pytest.raises(BackendError, match="32 bits"):
        input_files([{"ids": np.array([2**40])}], ["ids"], Version(8, 6))


def test_names_with_a_colon_are_quoted():
    """Exports of TensorFlow have such names; trtexec splits its options at colons."""
    assert spec_name("input_1:0") == "'input_1:0'"
    given = output_arguments(Version(10, 3), ["input_1:0", "x"])
    assert "--loadInputs='input_1:0':0.bin,x:1.bin" in given
    with pytest.raises(BackendError, match="a comma or a quote"):
        spec_name("a,b")


def test_a_run_that_wrote_nothing_is_refused():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w"):
        pass
    with pytest.raises(BackendError, match="no file for --exportOutput"):
        output_files(packed.getvalue(), [value("y")], 1)
