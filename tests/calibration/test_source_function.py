from pathlib import Path

import onnx_ir as ir
import pytest

from edgeprune.calibration.calibration import open_calibration
from edgeprune.errors import CalibrationError

MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 2] x) => (float[n, 2] y) { y = Relu(x) }'


def spec_of(tmp_path: Path, code: str) -> str:
    (tmp_path / "feeds.py").write_text(f"import numpy as np\n{code}")
    return f"{tmp_path / 'feeds.py'}:feeds"


def test_feeds_are_passed_on_as_yielded(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path, "def feeds():\n    for i in range(5):\n        yield {'x': np.full((i + 1, 2), i, np.float32)}"
    )
    calibration = open_calibration(spec, ir.from_onnx_text(MODEL))
    assert [len(feeds["x"]) for feeds in calibration.batches(32)] == [1, 2, 3, 4, 5]
    assert calibration.samples == 15
    assert "feeds.py:feeds" in calibration.describe()
    fit, held_out = calibration.split(0.4)
    assert (fit.items, held_out.items) == (3, 2)


def test_a_limit_ends_an_endless_generator(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "def feeds():\n    while True: yield {'x': np.ones((1, 2), np.float32)}")
    assert len(list(open_calibration(spec, ir.from_onnx_text(MODEL), limit=3).batches())) == 3


def test_data_that_changes_between_readings_is_refused(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "def feeds():\n    yield {'x': np.random.rand(1, 2).astype(np.float32)}")
    with pytest.raises(CalibrationError, match="other data when called again"):
        list(open_calibration(spec, ir.from_onnx_text(MODEL)).batches())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def feeds(): yield {'x': np.ones((1, 3), np.float32)}", "takes float32 .x2, but the data is float32 1x3"),
        ("def feeds(): yield {'x': np.ones((1, 2))}", "but the data is float64 1x2"),
        ("def feeds(): yield {'x': np.full((1, 2), np.nan, np.float32)}", "feed 0: .* NaN"),
        ("def feeds(): yield {'y': 1}", r"arrays \['x'\], got \['y'\]"),
        ("def feeds(): yield [1]", "got list"),
        ("def feeds(): return 3", "fails: TypeError"),
        ("def feeds():\n    yield {'x': np.ones((1, 2), np.float32)}\n    1 / 0", "fails at feed 1: ZeroDivisionError"),
        ("def feeds(): return iter(())", "has no samples"),
        ("feeds = 3", "has no function 'feeds'"),
        ("import nothing_of_this_name", "fails to import: ModuleNotFoundError"),
        ("def feeds(", "fails to import: SyntaxError"),
    ],
)
def test_functions_that_do_not_fit(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        open_calibration(spec_of(tmp_path, code), ir.from_onnx_text(MODEL))


def test_missing_file() -> None:
    with pytest.raises(CalibrationError, match="does not exist"):
        open_calibration("nowhere.py:feeds", ir.from_onnx_text(MODEL))
