"""Several inputs, each from a source of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.calibration import Calibration, open_calibration
from edgeprune.calibration.calibration_spec import CalibrationSpec
from edgeprune.errors import CalibrationError

Image = pytest.importorskip("PIL.Image")


def model(batch: str = "n") -> ir.Model:
    return ir.from_onnx_text(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{batch}, 3, 4, 6] left, float[{batch}, 3, 4, 6] right, '
        f"float[{batch}, 2] pose) => (float[{batch}, 3, 4, 6] y, float[{batch}, 2] z) "
        "{ y = Add(left, right) z = Identity(pose) }"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures a side, whose red is their number; the right ones are brighter by 100."""
    for side, more in (("l", 0), ("r", 100)):
        (tmp_path / side).mkdir()
        for number in range(5):
            Image.fromarray(np.full((4, 6, 3), number + more, np.uint8)).save(tmp_path / side / f"{number}.png")
    np.save(tmp_path / "pose.npy", np.arange(10, dtype=np.float32).reshape(5, 2))
    return tmp_path


def sources(folder: Path, **other: object) -> dict[str, str]:
    given = {"left": folder / "l", "right": folder / "r", "pose": folder / "pose.npy"} | other
    return {name: str(source) for name, source in given.items()}


def seen(data: Calibration) -> list[tuple[int, int, int]]:
    """Of each sample the values of the three inputs."""
    found = []
    for feeds in data.batches():
        rows = zip(feeds["left"][:, 0, 0, 0], feeds["right"][:, 0, 0, 0], feeds["pose"][:, 0], strict=True)
        found += [(round(255 * float(a)), round(255 * float(b)), round(float(c))) for a, b, c in rows]
    return found


def test_items_belong_together_by_their_order(folder: Path):
    data = open_calibration(sources(folder), model())
    assert seen(data) == [(n, 100 + n, 2 * n) for n in range(5)]
    (note,) = data.notes
    assert note == f"images belong together by their order: '{folder}/l/0.png' with '{folder}/r/0.png', and so on"
    assert "left: 5 images of l/ at 4x6" in data.describe()
    fit, held_out = data.split(seed=0)
    assert sorted(seen(fit) + seen(held_out)) == seen(data)


def test_a_broken_picture_leaves_out_what_belongs_to_it(folder: Path):
    (folder / "l" / "1.png").write_bytes(b"broken")
    (folder / "r" / "3.png").write_bytes(b"broken")
    data = open_calibration(sources(folder), model())
    assert seen(data) == [(n, 100 + n, 2 * n) for n in (0, 2, 4)]
    assert sum("1 file was skipped" in note for note in data.notes) == 2
    with pytest.raises(CalibrationError, match=r"r/3.png|l/1.png"):
        open_calibration(sources(folder), model(), strict=True)
    with pytest.raises(CalibrationError, match="every batch of 2 images must be whole"):
        open_calibration(sources(folder, pose=folder / "pose.npy"), model("2"))


def test_a_fixed_batch(folder: Path):
    np.save(folder / "pose.npy", np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    assert seen(open_calibration(sources(folder), model("2"))) == [(n, 100 + n, 2 * n) for n in range(4)]


def test_fewer_samples_and_random_numbers(folder: Path):
    data = open_calibration(sources(folder), model(), limit=2)
    assert seen(data) == [(0, 100, 0), (4, 104, 8)]
    data = open_calibration(sources(folder, pose="random"), model())
    assert [(left, right) for left, right, _ in seen(data)] == [(n, 100 + n) for n in range(5)]


def test_pictures_are_counted_before_some_are_chosen(folder: Path):
    """Two of five and two of four would be pairs of other pictures."""
    two = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3, 4, 6] left, float[n, 3, 4, 6] right) => '
        "(float[n, 3, 4, 6] y) { y = Add(left, right) }"
    )
    given = {name: str(folder / name[0]) for name in ("left", "right")}
    assert open_calibration(given, two, limit=2).samples == 2
    (folder / "r" / "2.png").unlink()
    with pytest.raises(CalibrationError, match="5 items for 'left' and 4 items for 'right'"):
        open_calibration(given, two, limit=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lefft": "x"}, "no input 'lefft' for 'x'; the nearest is 'left'"),
        ({"right": "{folder}/none"}, "none does not exist"),
        ({"right": "{folder}/two.txt"}, "5 items for 'left' and 2 items for 'right' and 5 items for 'pose'"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, given: dict[str, str], message: str):
    (folder / "two.txt").write_text("r/0.png\nr/1.png\n")
    given = {name: text.format(folder=folder) for name, text in given.items()}
    with pytest.raises(CalibrationError, match=message):
        open_calibration(sources(folder) | given, model())


def test_every_input_needs_data(folder: Path):
    with pytest.raises(CalibrationError, match="input 'right' has no data: give right=SRC, too"):
        open_calibration(f"left={folder / 'l'}", model())
    with pytest.raises(CalibrationError, match=r"give each input its own source, as in --calib left="):
        open_calibration(str(folder / "l"), model())


def test_a_folder_may_have_an_equals_sign(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    (folder / "x=1").mkdir()
    Image.fromarray(np.full((4, 6, 3), 7, np.uint8)).save(folder / "x=1" / "0.png")
    one = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3, 4, 6] x) => (float[n, 3, 4, 6] y) { y = Identity(x) }'
    )
    assert open_calibration("x=1", one).samples == 1
    assert open_calibration("x=l", one).samples == 5
    assert CalibrationSpec("x=l").has_sizes(one) is False
