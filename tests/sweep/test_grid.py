from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.errors import UsageError
from edgeprune.sweep.grid import read_grid

FLAGS = frozenset({"model", "target", "speedup", "latency-ms", "max-drop", "calib", "threads", "device", "mean"})


def written(folder: Path, text: str) -> Path:
    (folder / "grid.toml").write_text(text, encoding="utf-8")
    return folder / "grid.toml"


def test_models_times_targets_times_budgets(tmp_path: Path):
    text = """
        models = ["a.onnx", "deep/b.onnx"]
        targets = ["orin", "cpu"]
        speedup = [1.5, 2]
        max-drop = [1]
        calib = "photos"
        mean = [0.5, 0.5, 0.5]
        [for."deep/b.onnx"]
        calib = "b.npz"
        [for.cpu]
        threads = 2
    """
    jobs = read_grid(written(tmp_path, text), FLAGS).jobs
    assert len(jobs) == len({job.key for job in jobs}) == 12
    assert [job.measures for job in jobs] == [True] * 6 + [False] * 6
    by_key = {job.key: dict(job.recipe.values) for job in jobs}
    assert by_key["b/cpu/max-drop-1"] == {
        "model": "deep/b.onnx",
        "target": "cpu",
        "calib": "b.npz",
        "mean": "0.5,0.5,0.5",
        "threads": 2,
        "max-drop": 1,
    }
    assert by_key["a/orin/speedup-1.5"]["calib"] == "photos"
    moved = jobs[0].recipe.moved_to(tmp_path / "out" / jobs[0].key)
    assert moved.values["model"] == "../../../../a.onnx"


def test_devices_and_no_budget(tmp_path: Path):
    (job,) = read_grid(
        written(tmp_path, 'models = ["a.onnx"]\ntargets = ["orin"]\ndevice = "ssh://me@board"'), FLAGS
    ).jobs
    assert (job.key, job.device, job.measures) == ("a/orin/no-budget", "ssh://me@board", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = [", "is not TOML"),
        ('targets = ["cpu"]', r"models must be a list of names, such as models = \["),
        ('models = ["a.onnx"]\ntargets = []', "targets must be a list"),
        ('models = ["a.onnx"]\ntargets = ["cpu"]\ncalbi = "x"', "'calbi' is no flag .* the nearest is 'calib'"),
        ('models = ["a.onnx"]\ntargets = ["cpu"]\nspeedup = [true]', "speedup must be a list of numbers"),
        ('models = ["a.onnx", "x/a.onnx"]\ntargets = ["cpu"]', "would have one folder"),
        ('models = ["a.onnx"]\ntargets = ["cpu"]\n[for.b]\nthreads = 1', r"\[for.b\] names no model and no target"),
        ('models = ["a.onnx"]\ntargets = ["cpu"]\nfor = 3', "one table of flags"),
    ],
)
def test_what_is_wrong_with_a_grid(text: str, message: str, tmp_path: Path):
    with pytest.raises(UsageError, match=message):
        read_grid(written(tmp_path, text), FLAGS)
    with pytest.raises(UsageError, match=r"cannot read the sweep .*none.toml': No such file or directory$"):
        read_grid(tmp_path / "none.toml", FLAGS)
    (tmp_path / "grid.toml").write_bytes(b"\xcc")
    with pytest.raises(UsageError, match="is not TOML: it is not UTF-8 text"):
        read_grid(tmp_path / "grid.toml", FLAGS)
