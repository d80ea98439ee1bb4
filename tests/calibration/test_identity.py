from pathlib import Path

import numpy as np
import onnx

from edgeprune.calibration.calibration import open_calibration
from edgeprune.calibration.identity import digest, identity_of, program
from edgeprune.dependency.opened_model import OpenedModel, open_model
from edgeprune.support.progress import Progress
from tests.small_models import calibration

TEXT = '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 4] x) => (float[n, 6] y) { y = MatMul(x, w) }'


def opened(folder: Path, scale: float, external: bool) -> OpenedModel:
    model = onnx.parser.parse_model(TEXT)
    weight = (scale * np.arange(24, dtype=np.float32)).reshape(4, 6)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    folder.mkdir(exist_ok=True)
    (folder / "net.data").unlink(missing_ok=True)
    onnx.save(model, folder / "net.onnx", save_as_external_data=external, location="net.data", size_threshold=0)
    return open_model(folder / "net.onnx", {}, Progress())


def test_weights_data_and_device_all_count(tmp_path: Path) -> None:
    data = calibration(x=np.ones((4, 4), np.float32))
    other = calibration(x=np.zeros((4, 4), np.float32))
    mine = opened(tmp_path / "a", 1.0, external=False)
    same, changed = opened(tmp_path / "b", 1.0, external=False), opened(tmp_path / "c", 2.0, external=False)
    assert identity_of(mine, data, "cpu") == identity_of(same, data, "cpu")
    assert len({identity_of(j, d, c) for j, d, c in [
        (mine, data, "cpu"), (changed, data, "cpu"), (mine, other, "cpu"), (mine, data, "another cpu"),
    ]}) == 4  # fmt: skip


def test_weights_beside_the_file_count(tmp_path: Path) -> None:
    data = calibration(x=np.ones((4, 4), np.float32))
    first = opened(tmp_path / "a", 1.0, external=True)
    text = identity_of(first, data, "cpu")
    changed = opened(tmp_path / "b", 2.0, external=True)
    assert first.sha256 == changed.sha256
    assert identity_of(changed, data, "cpu") != text


def test_samples_count_in_their_order_but_not_in_their_batches(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert digest(calibration(x=x)) == digest(calibration(x=x.copy()))
    assert digest(calibration(x=x)) != digest(calibration(x=x[::-1]))
    np.savez(tmp_path / "x.npz", x=x)
    model = opened(tmp_path / "a", 1.0, external=False).dense
    whole = open_calibration(str(tmp_path / "x.npz"), model)
    assert digest(whole) == digest(calibration(x=x))


def test_the_program_has_one_digest() -> None:
    assert program() == program()
    assert len(program()) == 64
