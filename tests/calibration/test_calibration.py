import re
import zipfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.calibration import open_calibration
from edgeprune.errors import CalibrationError

OPEN_BATCH = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 3, 4, 6] x) => (float[n, 3, 4, 6] y) { y = Relu(x) }
"""
FIXED_BATCH = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2, 3] x, int64[2] index) => (float[2, 3] y) { y = Relu(x) }
"""


@pytest.fixture
def model() -> ir.Model:
    return ir.from_onnx_text(OPEN_BATCH)


def images(count: int = 10, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, 4, 6)).astype(dtype)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read_in_batches_and_read_again(tmp_path: Path, model: ir.Model, save) -> None:
    x = images()
    save(tmp_path / "c.npz", x=x, other=np.zeros(3))
    calibration = open_calibration(str(tmp_path / "c.npz"), model, batch_size=4)
    assert calibration.samples == 10
    for _ in range(2):
        batches = [feeds["x"] for feeds in calibration.batches()]
        assert [len(b) for b in batches] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate(batches), x)
    assert "c.npz" in calibration.describe()
    assert "10 samples" in calibration.describe()


def test_npy_feeds_the_only_input(tmp_path: Path, model: ir.Model) -> None:
    np.save(tmp_path / "c.npy", images())
    (feeds,) = open_calibration(str(tmp_path / "c.npy"), model).batches()
    np.testing.assert_array_equal(feeds["x"], images())


def test_a_fixed_batch_is_fed_whole_batches_and_the_rest_is_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=np.arange(15, dtype=np.float32).reshape(5, 3), index=np.arange(5))
    calibration = open_calibration(str(tmp_path / "c.npz"), ir.from_onnx_text(FIXED_BATCH))
    batches = list(calibration.batches(32))
    assert [b["x"].shape for b in batches] == [(2, 3), (2, 3)]
    assert [b["index"].tolist() for b in batches] == [[0, 1], [2, 3]]
    assert calibration.samples == 4


def test_an_extra_leading_axis_counts_feeds(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=np.zeros((4, 2, 3), np.float32), index=np.zeros((4, 2), np.int64))
    batches = list(open_calibration(str(tmp_path / "c.npz"), ir.from_onnx_text(FIXED_BATCH)).batches())
    assert [b["x"].shape for b in batches] == [(2, 3)] * 4


def test_split_is_disjoint_complete_and_seeded(tmp_path: Path, model: ir.Model) -> None:
    np.savez(tmp_path / "c.npz", x=images(17))
    calibration = open_calibration(str(tmp_path / "c.npz"), model)
    fit, held_out = calibration.split(0.25, seed=3)
    assert (fit.samples, held_out.samples) == (13, 4)
    assert not (fit.chosen & held_out.chosen).any()
    again = calibration.split(0.25, seed=3)[1]
    np.testing.assert_array_equal(held_out.chosen, again.chosen)
    rows = np.concatenate([feeds["x"] for feeds in held_out.batches(3)])
    np.testing.assert_array_equal(rows, images(17)[held_out.chosen])


def test_limit_spreads_over_the_data(tmp_path: Path, model: ir.Model) -> None:
    np.savez(tmp_path / "c.npz", x=images(11))
    calibration = open_calibration(str(tmp_path / "c.npz"), model, limit=3)
    assert np.flatnonzero(calibration.chosen).tolist() == [0, 5, 10]


def test_one_sample_can_not_be_split(tmp_path: Path, model: ir.Model) -> None:
    np.savez(tmp_path / "c.npz", x=images(1))
    with pytest.raises(CalibrationError, match="at least 2 samples"):
        open_calibration(str(tmp_path / "c.npz"), model).split()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": images()}, "no array named 'x'; it has image"),
        ({"x": images(dtype=np.float64)}, "takes float32 ?x3x4x6, but the data is float64 10x3x4x6"),
        ({"x": images()[:, :2]}, "takes float32 ?x3x4x6, but the data is float32 10x2x4x6"),
        ({"x": images()[:, 0]}, "but the data is float32 10x4x6"),
        ({"x": images()[:0]}, "has only 0 samples"),
        ({"x": np.asfortranarray(images())}, "column by column"),
        ({"x": np.array([None, 1])}, "Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path: Path, model: ir.Model, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(CalibrationError, match=re.escape(message)):
        open_calibration(str(tmp_path / "c.npz"), model)


def test_arrays_of_different_length_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", x=np.zeros((4, 3), np.float32), index=np.zeros(6, np.int64))
    with pytest.raises(CalibrationError, match="different numbers of samples"):
        open_calibration(str(tmp_path / "c.npz"), ir.from_onnx_text(FIXED_BATCH))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, model: ir.Model, bad: float) -> None:
    x = images()
    x[7, 0, 0, 0] = bad
    np.savez(tmp_path / "c.npz", x=x)
    with pytest.raises(CalibrationError, match="'x' has NaN or infinite"):
        list(open_calibration(str(tmp_path / "c.npz"), model).batches())


def test_damaged_and_missing_files(tmp_path: Path, model: ir.Model) -> None:
    np.savez(tmp_path / "c.npz", x=images(100))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:500])
    (tmp_path / "text.npy").write_text("hello")
    np.save(tmp_path / "short.npy", images())
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:-100])
    with zipfile.ZipFile(tmp_path / "odd.npz", "w") as archive:
        archive.writestr("x.npy", b"no header")
    for name, message in (
        ("cut.npz", "can't be read as NumPy arrays"),
        ("text.npy", "can't be read as NumPy arrays"),
        ("odd.npz", "can't be read as NumPy arrays"),
        ("none.npz", "does not exist"),
        ("none", "does not exist"),
        ("short.npy", "to its end"),
    ):
        with pytest.raises(CalibrationError, match=message):
            list(open_calibration(str(tmp_path / name), model).batches())
    (tmp_path / "data.bin").write_text("")
    with pytest.raises(CalibrationError, match=r"not an \.npz"):
        open_calibration(str(tmp_path / "data.bin"), model)


def test_missing_data_is_refused_and_random_numbers_are_named(model: ir.Model) -> None:
    with pytest.raises(CalibrationError, match="needs calibration data"):
        open_calibration(None, model)
    calibration = open_calibration("random", model, limit=5)
    assert calibration.is_random
    assert "random numbers" in calibration.describe()
    first, second = ([feeds["x"] for feeds in calibration.batches(size)] for size in (2, 5))
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


def test_random_data_needs_shapes() -> None:
    text = OPEN_BATCH.replace("float[n, 3, 4, 6]", "float[n, 3, h, 6]")
    with pytest.raises(CalibrationError, match=r"'x'.*--shape"):
        open_calibration("random", ir.from_onnx_text(text))


def test_memory_stays_flat_as_the_data_grows(tmp_path: Path, model: ir.Model) -> None:
    import tracemalloc

    peaks = []
    for count in (64, 1024):
        np.savez(tmp_path / "c.npz", x=images(count))
        tracemalloc.start()
        for _ in open_calibration(str(tmp_path / "c.npz"), model, batch_size=8).batches():
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 20_000
