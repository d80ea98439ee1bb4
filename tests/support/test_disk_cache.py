import sqlite3
from pathlib import Path

import pytest

from edgeprune.errors import ProfileError
from edgeprune.support.disk_cache import LatencyCache, cache_folder


def test_times_outlive_the_process_and_belong_to_a_device(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "latency.sqlite"
    first = LatencyCache("cpu a", file)
    first.put({"conv": 12.5, "pool": 3.0})
    first.close()
    again, other = LatencyCache("cpu a", file), LatencyCache("cpu b", file)
    assert again.get_all(["conv", "pool"]) == {"conv": 12.5, "pool": 3.0}
    assert other.get("conv") is None
    assert again.get_all(["conv", "resize"]) is None
    again.close()
    other.close()


def test_a_newer_time_replaces_the_old(tmp_path: Path) -> None:
    cache = LatencyCache("cpu", tmp_path / "latency.sqlite")
    cache.put({"conv": 12.5})
    cache.put({"conv": 11.0})
    assert cache.get("conv") == 11.0
    cache.close()


def test_all_of_a_batch_or_none_is_stored(tmp_path: Path) -> None:
    cache = LatencyCache("cpu", tmp_path / "latency.sqlite")
    with pytest.raises(ProfileError, match="cannot be written"):
        cache.put({"conv": 12.5, "pool": -1.0})
    assert cache.get("conv") is None
    cache.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "latency.sqlite"
    file.write_text("not a database, but long enough to be read as one" * 20)
    with pytest.raises(ProfileError, match=r"latency\.sqlite cannot be used"):
        LatencyCache("cpu", file)


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    cache = LatencyCache("cpu")
    cache.put({"conv": 1.0})
    cache.close()
    with sqlite3.connect(tmp_path / "here" / "latency.sqlite") as db:
        assert db.execute("SELECT count(*) FROM latency").fetchone() == (1,)
    db.close()
