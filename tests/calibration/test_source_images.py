from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration import source_images
from edgeprune.calibration.calibration import open_calibration
from edgeprune.calibration.calibration_spec import CalibrationSpec
from edgeprune.errors import CalibrationError

Image = pytest.importorskip("PIL.Image")


def model(dtype: str = "float", dims: str = "n, 3, 4, 6") -> ir.Model:
    return ir.from_onnx_text(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({dtype}[{dims}] x) => ({dtype}[{dims}] y) {{ y = Identity(x) }}'
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(3):
        pixels = np.full((4, 6, 3), 50 * index, np.uint8)
        pixels[..., 0] = 255
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_are_scaled_and_normalised_in_name_order(folder: Path) -> None:
    calibration = open_calibration(str(folder), model(), mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.5])
    (feeds,) = calibration.batches()
    assert feeds["x"].shape == (3, 3, 4, 6)
    np.testing.assert_allclose(feeds["x"][:, 0], 2.0, rtol=1e-6)
    np.testing.assert_allclose(feeds["x"][:, 2, 0, 0], [-1, 50 / 255 * 2 - 1, 100 / 255 * 2 - 1], rtol=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_fixed_batch_takes_so_many_images_at_a_time(folder: Path, layout: str) -> None:
    dims = "2, 3, 4, 6" if layout == "NCHW" else "2, 4, 6, 3"
    for index in (3, 4):
        Image.fromarray(np.full((4, 6, 3), 50 * index, np.uint8)).save(folder / f"{index}.png")
    calibration = open_calibration(str(folder), model(dims=dims))
    first, second = calibration.batches()
    assert (calibration.items, calibration.samples) == (2, 4)
    blue = 2 if layout == "NCHW" else (slice(None), slice(None), 2)
    values = [[picture[blue].mean() * 255 for picture in feeds["x"]] for feeds in (first, second)]
    np.testing.assert_allclose(values, [[0, 50], [100, 150]], atol=1e-3)
    assert calibration.notes == ("the model takes batches of 2 images: 1 image at the end left out",)
    large, small = calibration.split()
    assert (large.samples, small.samples) == (2, 2)


def test_fewer_images_than_the_fixed_batch_are_refused(folder: Path) -> None:
    with pytest.raises(CalibrationError, match=r"3 images of .* are fewer than the batch of input 'x'"):
        open_calibration(str(folder), model(dims="4, 3, 4, 6"))


def test_integer_inputs_take_pixels_as_they_are(folder: Path) -> None:
    (feeds,) = open_calibration(str(folder), model("uint8", "n, 4, 6, 3"), layout="NHWC").batches()
    assert feeds["x"].dtype == np.uint8
    assert feeds["x"][1, 0, 0].tolist() == [255, 50, 50]


def test_images_are_resized_and_turned_grey(folder: Path) -> None:
    calibration = open_calibration(str(folder), model(dims="n, 1, h, w"), size=(8, 5), mean=[0.0])
    (feeds,) = calibration.batches()
    assert feeds["x"].shape == (3, 1, 8, 5)


@pytest.mark.parametrize(
    ("dims", "options", "message"),
    [
        ("n, 3, h, w", {}, "any size"),
        ("n, 4, 4, 6", {}, "can't be fed"),
        ("n, 3, 4, 6", {"size": (8, 8)}, "--size 8x8 contradicts input 'x', for which the model has 4x6"),
        ("n, 3, 4, 6", {"layout": "HWC"}, "NCHW or NHWC"),
        ("n, 3, 4, 6", {"mean": [0.5]}, "3 numbers each"),
        ("n, 3, 4, 6", {"std": [1, 1, 0]}, "above 0"),
        ("n, 3", {}, "one input of 4 axes"),
    ],
)
def test_options_that_do_not_fit(folder: Path, dims: str, options: dict, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        open_calibration(str(folder), model(dims=dims), **options)


def test_folders_without_images_and_broken_images(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match="has no images"):
        open_calibration(str(tmp_path / "empty"), model())
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:40])
    with pytest.raises(CalibrationError, match=r"1\.png can't be read as an image"):
        open_calibration(str(folder), model(), strict=True)
    calibration = open_calibration(str(folder), model())
    assert calibration.items == 2
    (note,) = calibration.notes
    assert note.startswith("1 file was skipped, for example: ")
    assert "1.png can't be read" in note


@pytest.mark.parametrize("options", [{"size": (8, 6)}, {"sizes": {"x": (1, 3, 8, 6)}}])
def test_size_or_shape_alone_is_enough_for_images_of_an_open_model(folder: Path, options: dict) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3, h, w] x) => (float[n, 3, h, w] y) { y = Relu(x) }'
    (first, *_) = open_calibration(str(folder), ir.from_onnx_text(text), **options).batches(1)
    assert first["x"].shape == (1, 3, 8, 6)
    with pytest.raises(CalibrationError, match="--size 4x4 contradicts input 'x', for which --shape gives 8x6"):
        open_calibration(str(folder), ir.from_onnx_text(text), size=(4, 4), sizes={"x": (1, 3, 8, 6)})


def test_the_metadata_of_an_export_decides_unless_the_user_does(folder: Path) -> None:
    yolo = model(dims="n, 3, h, w")
    yolo.metadata_props.update({"task": "detect", "stride": "32", "names": "{}", "imgsz": "[8, 8]"})
    letterboxed = open_calibration(str(folder), yolo)
    (feeds,) = letterboxed.batches()
    assert feeds["x"].shape == (3, 3, 8, 8)
    np.testing.assert_allclose(feeds["x"][0, :, 0], 114 / 255, rtol=1e-6)  # 4 x 6 becomes 5 x 8
    assert "letterboxed, as ultralytics does" in letterboxed.describe()
    assert "as the export's metadata says" in letterboxed.notes[0]
    assert CalibrationSpec(str(folder)).has_sizes(yolo)
    plain = open_calibration(str(folder), yolo, preprocess="none")
    assert plain.notes == ()
    assert "stretched" in plain.describe()
    assert "center crop" in open_calibration(str(folder), yolo, fit="crop:0.5").describe()


def test_order_layout_and_grey(folder: Path) -> None:
    rgb = next(open_calibration(str(folder), model()).batches())["x"]
    bgr = next(open_calibration(str(folder), model(), channel_order="BGR").batches())["x"]
    np.testing.assert_array_equal(rgb, bgr[:, ::-1])
    channels_last = next(open_calibration(str(folder), model(dims="n, 4, 6, 3")).batches())["x"]
    np.testing.assert_array_equal(channels_last, rgb.transpose(0, 2, 3, 1))
    grey = open_calibration(str(folder), model(dims="n, 1, 4, 6"), preprocess="torchvision")
    assert grey.notes[0].startswith("the model has one channel: images are converted to grey")
    with pytest.raises(CalibrationError, match="there is no preset 'tim' for images; the nearest is 'timm'"):
        open_calibration(str(folder), model(), preprocess="tim")


def test_many_images_are_thinned_out_evenly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_images, "DEFAULT_PICTURES", 2)
    calibration = open_calibration(str(folder), model())
    assert calibration.notes[0].startswith("2 of 3 images are used")
    assert next(calibration.batches())["x"][:, 1, 0, 0].tolist() == [0, pytest.approx(100 / 255)]
    assert open_calibration(str(folder), model(), limit=3).samples == 3


def test_options_for_images_with_other_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3, 4, 6), np.float32))
    with pytest.raises(CalibrationError, match=r"--mean and --fit prepare images, but the calibration data is .*npz"):
        open_calibration(str(tmp_path / "a.npz"), model(), mean=[0.5], fit="crop")


def test_size_fixes_the_open_axes_for_random_data() -> None:
    assert CalibrationSpec("random", size=(32, 48)).random_shapes(model(dims="n, 3, h, w")) == {"x": (1, 3, 32, 48)}
    assert CalibrationSpec("random").random_shapes(model(dims="n, 3, h, w")) == {}
    with pytest.raises(CalibrationError, match="--size is for a model with one input of 4 axes"):
        CalibrationSpec("random", size=(32, 48)).random_shapes(model(dims="n, 3"))
    with pytest.raises(CalibrationError, match="--size 32x48 contradicts"):
        CalibrationSpec("random", size=(32, 48)).random_shapes(model())
