import numpy as np
import pytest

from edgeprune.calibration.activation_spool import Spool
from edgeprune.errors import CalibrationError


def test_spool_gives_back_what_it_was_given() -> None:
    with Spool() as spool:
        arrays = [np.arange(6, dtype=np.int64).reshape(2, 3), np.zeros((0, 3), np.int64), np.ones((1, 3), np.int64)]
        for array in arrays:
            spool.append("v", array)
        spool.append("w", np.float32(2).reshape(()))
        for number in (2, 0, 1):
            np.testing.assert_array_equal(spool.read("v", number), arrays[number])
        assert spool.read("w", 0).shape == ()
        spool.drop("v")
        spool.append("u", arrays[0])
        np.testing.assert_array_equal(spool.read("w", 0), 2.0)


def test_half_precision_takes_half_the_space_where_the_range_allows() -> None:
    fine, large = np.linspace(-3, 3, 64, dtype=np.float32), np.full(64, 1e5, np.float32)
    with Spool(half=True) as spool:
        for array in (fine, large):
            spool.append("v", array)
        assert spool.most_bytes == 64 * (2 + 4)
        np.testing.assert_allclose(spool.read("v", 0), fine, rtol=2**-11)
        np.testing.assert_array_equal(spool.read("v", 1), large)
        assert spool.read("v", 0).dtype == np.float32
        spool.drop("v")
        spool.append("w", fine)
        assert spool.most_bytes == 64 * (2 + 4)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import pathlib

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    with Spool() as spool:
        monkeypatch.setattr(pathlib.Path, "open", full)
        with pytest.raises(CalibrationError, match="No space left"):
            spool.append("v", np.ones(3))
        monkeypatch.undo()
