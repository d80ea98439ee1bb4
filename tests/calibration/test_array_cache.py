import sqlite3
from pathlib import Path

import numpy as np
import pytest

from edgeprune.calibration import array_cache as arraycache
from edgeprune.calibration.array_cache import ArrayCache
from edgeprune.errors import ProfileError


def test_computed_once_for_the_same_model_and_settings(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(len(calls))
        return {"a/b": np.arange(6.0).reshape(2, 3), "order": np.array([3, 1], np.int64), "one": np.array(0.5)}

    file = tmp_path / "deep" / "statistics.sqlite"
    first = ArrayCache("model 1", file).arrays("ranking", {"step": 8}, compute)
    again = ArrayCache("model 1", file).arrays("ranking", {"step": 8}, compute)
    assert calls == [0]
    assert list(again) == list(first)
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
    ArrayCache("model 2", file).arrays("ranking", {"step": 8}, compute)
    ArrayCache("model 1", file).arrays("ranking", {"step": 16}, compute)
    ArrayCache("model 1", file).arrays("losses", {"step": 8}, compute)
    assert calls == [0, 1, 2, 3]


def test_what_fails_is_not_stored(tmp_path: Path) -> None:
    cache = ArrayCache("model", tmp_path / "statistics.sqlite")

    def fail() -> dict[str, np.ndarray]:
        raise MemoryError

    with pytest.raises(MemoryError):
        cache.arrays("ranking", None, fail)
    assert cache.arrays("ranking", None, lambda: {"x": np.ones(1)})["x"] == 1


def test_the_oldest_go_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arraycache, "KEPT_BYTES", 20_000)
    cache = ArrayCache("model", tmp_path / "statistics.sqlite")
    noise = np.random.default_rng(0).bytes(9_000)
    for number in range(4):
        cache.arrays("ranking", number, lambda: {"x": np.frombuffer(noise, np.uint8)})
    with sqlite3.connect(tmp_path / "statistics.sqlite") as db:
        assert db.execute("SELECT count(*) FROM statistic").fetchone() == (2,)
    db.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "statistics.sqlite"
    file.write_text("not a database, but long enough to be read as one" * 20)
    with pytest.raises(ProfileError, match=r"statistics\.sqlite cannot be used"):
        ArrayCache("model", file).arrays("ranking", None, dict)


def test_an_entry_that_is_damaged_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "statistics.sqlite"
    cache = ArrayCache("model", file)
    cache.arrays("ranking", None, lambda: {"x": np.ones(3)})
    with sqlite3.connect(file) as db:
        db.execute("UPDATE statistic SET value = ?", (b"damaged",))
    db.close()
    with pytest.raises(ProfileError, match="cannot be used"):
        cache.arrays("ranking", None, dict)


def test_what_is_kept_is_found_and_replaced(tmp_path: Path) -> None:
    cache = ArrayCache("model", tmp_path / "statistics.sqlite")
    assert cache.find("factors", {"a": 1}) is None
    for values in ([1.0, 2.0], [3.0]):
        cache.keep("factors", {"a": 1}, {"x": np.array(values)})
        found = cache.find("factors", {"a": 1})
        assert found is not None
        np.testing.assert_array_equal(found["x"], values)
    assert cache.find("factors", {"a": 2}) is None
    assert ArrayCache("other", tmp_path / "statistics.sqlite").find("factors", {"a": 1}) is None
