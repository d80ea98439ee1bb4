"""Sweeps with a stand-in for ``edgeprune compile``: resumed, refused, killed, on this machine and on a Dask cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jsonschema
import pytest

from edgeprune.errors import BackendError, ModelError, UsageError
from edgeprune.sweep import run_job as job_module
from edgeprune.sweep.dask_workers import run_on_cluster
from edgeprune.sweep.grid import Grid, read_grid
from edgeprune.sweep.local_workers import worker_count
from edgeprune.sweep.run_sweep import run_sweep
from edgeprune.sweep.sweep_report import best_rows

ROOT = Path(__file__).resolve().parents[2]
FLAGS = frozenset({"model", "target", "speedup", "calib"})


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("SWEEP_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "log").touch()
    monkeypatch.setattr(job_module, "PROGRAM", ("tests.sweep.stand_in",))


def grid(folder: Path, models: str = '"a.onnx", "b.onnx"', targets: str = '"orin"') -> Grid:
    text = f'models = [{models}]\ntargets = [{targets}]\nspeedup = [1.5, 2, 3]\ncalib = "random"\n'
    (folder / "grid.toml").write_text(text, encoding="utf-8")
    return read_grid(folder / "grid.toml", FLAGS)


def log(folder: Path) -> list[tuple[str, str, int, float]]:
    return [tuple(json.loads(line)) for line in (folder / "log").read_text().splitlines()]


def ended(folder: Path) -> list[str]:
    return sorted(where for what, where, *_ in log(folder) if what == "end")


def test_a_sweep_and_its_report(tmp_path: Path):
    out = tmp_path / "out"
    done = run_sweep(grid(tmp_path, '"a.onnx", "refused.onnx"'), out, workers=2)
    done.raise_failures()
    rows = best_rows(done.done, out)
    assert [row[:3] for row in rows] == [("orin", "a.onnx", "speedup-3"), ("orin", "refused.onnx", "none was reached")]
    page = (out / "sweep.html").read_text(encoding="utf-8")
    assert "Best for each device" in page
    assert "chart-0" in page
    assert "1.2x can" in page
    summary = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    jsonschema.validate(summary, json.loads((ROOT / "docs" / "sweep.schema.json").read_text(encoding="utf-8")))
    jobs = summary["jobs"]
    assert {(j["model"], j["code"]) for j in jobs} == {("a.onnx", 0), ("refused.onnx", 4)}
    # Again: nothing runs, also what was refused does not.
    before = log(tmp_path)
    run_sweep(grid(tmp_path, '"a.onnx", "refused.onnx"'), out, workers=2)
    assert log(tmp_path) == before


def test_what_failed_is_said_and_tried_again(tmp_path: Path):
    done = run_sweep(grid(tmp_path, '"broken.onnx", "a.onnx"'), tmp_path / "out", workers=2)
    with pytest.raises(ModelError, match=r"3 of 6 compiles failed; broken/orin/speedup-1\.5: the model is invalid"):
        done.raise_failures()
    assert len(ended(tmp_path)) == 3
    count = len(log(tmp_path))
    run_sweep(grid(tmp_path, '"broken.onnx", "a.onnx"'), tmp_path / "out", workers=2)
    assert len(log(tmp_path)) == count + 3


def test_other_flags_need_another_folder(tmp_path: Path):
    run_sweep(grid(tmp_path), tmp_path / "out", workers=2)
    changed = grid(tmp_path)
    (tmp_path / "grid.toml").write_text((tmp_path / "grid.toml").read_text().replace("random", "x.npz"))
    changed = read_grid(tmp_path / "grid.toml", FLAGS)
    with pytest.raises(UsageError, match="has a result of other flags"):
        run_sweep(changed, tmp_path / "out", workers=2)


def test_measurements_are_never_two_at_a_time(tmp_path: Path):
    run_sweep(grid(tmp_path, targets='"cpu", "orin"'), tmp_path / "out", workers=4)
    begins = {pid: (where, at) for what, where, pid, at in log(tmp_path) if what == "begin"}
    spans = [(begins[pid][1], at, "/cpu/" in where) for what, where, pid, at in log(tmp_path) if what == "end"]
    assert len(spans) == 12
    for start, end, measures in spans:
        others = [span for span in spans if span != (start, end, measures) and span[0] < end and span[1] > start]
        assert not measures or not others


def test_a_killed_compile_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    victim = tmp_path / "victim"
    monkeypatch.setenv("SWEEP_VICTIM", str(victim))

    def kill() -> None:
        deadline = time.monotonic() + 50
        while not (victim.is_file() and victim.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(int(victim.read_text()), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    run_sweep(grid(tmp_path, '"a.onnx"'), tmp_path / "out", workers=3).raise_failures()
    thread.join()
    assert len(ended(tmp_path)) == 3
    assert len(log(tmp_path)) == 7, "one began twice"


def test_a_cluster_that_loses_a_worker_loses_and_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("SWEEP_SECONDS", "0.7")
    scheduler_file = tmp_path / "scheduler.json"
    options = ["--scheduler-file", str(scheduler_file)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {**os.environ, "TMPDIR": str(tmp_path)}}
    program = f"import tests.sweep.cluster_worker as w; w.main({str(scheduler_file)!r})"
    head = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *options, "--port", "0", "--no-dashboard"], **quiet
    )
    workers = [subprocess.Popen([sys.executable, "-c", program], **quiet) for _ in range(2)]
    try:
        with distributed.Client(scheduler_file=str(scheduler_file), timeout=300, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=300)
            address = client.scheduler.address
        victim = threading.Thread(target=_kill_one, args=(tmp_path, workers))
        victim.start()
        done = run_sweep(grid(tmp_path), tmp_path / "out", scheduler=address)
        victim.join()
        done.raise_failures()
        assert [entry.ended.code for entry in done.done] == [0] * 6, "nothing is lost"
        assert len(ended(tmp_path)) == len(set(ended(tmp_path))) == 6, "nothing is done twice"
        assert sum(worker.poll() is not None for worker in workers) == 1
    finally:
        for process in (*workers, head):
            process.kill()
            process.wait()


def _kill_one(folder: Path, workers: list) -> None:
    """Kill a worker in the middle of its second compile."""
    deadline = time.monotonic() + 300
    while len(log(folder)) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    workers[0].kill()


def test_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("distributed")
    from edgeprune.sweep import dask_workers

    monkeypatch.setattr(dask_workers, "_CONNECT_S", 1)
    with pytest.raises(BackendError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        list(run_on_cluster(grid(tmp_path).jobs, tmp_path, "tcp://127.0.0.1:9"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BackendError, match=r"pip install 'edgeprune\[cluster\]'"):
        list(run_on_cluster(grid(tmp_path).jobs, tmp_path, "tcp://127.0.0.1:9"))


def test_workers_by_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from edgeprune.sweep import local_workers

    monkeypatch.setattr(local_workers, "available_cores", lambda: 8)
    monkeypatch.setattr(local_workers, "available_memory", lambda: 5 << 30)
    assert worker_count([]) == 5
    (tmp_path / "big.onnx").write_bytes(b"")
    os.truncate(tmp_path / "big.onnx", 1 << 28)
    assert worker_count([tmp_path / "big.onnx"]) == 1
    assert worker_count([tmp_path / "big.onnx"], wanted=3) == 3
    monkeypatch.undo()
    assert local_workers.available_memory() > 1 << 20
