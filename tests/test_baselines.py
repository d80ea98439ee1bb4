from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune import cli_support
from edgeprune.baselines import baseline_file, find_baseline, keep_baseline
from edgeprune.cli import cli
from edgeprune.errors import UsageError
from edgeprune.report.model import Report
from tests.reports import report
from tests.test_gate import slower, throttled


def test_a_folder_keeps_one_a_model_and_target(tmp_path: Path):
    kept = keep_baseline(tmp_path / "ci", report())
    assert kept == tmp_path / "ci" / "net.cpu.json"
    again = find_baseline(tmp_path / "ci", report(), missing_ok=False)
    assert again is not None
    assert again.latency == report().latency
    assert again.refused == again.warnings == ()
    assert baseline_file(tmp_path / "x.json", report()) == tmp_path / "x.json"


def test_what_is_missing_or_no_measurement_is_refused(tmp_path: Path):
    assert find_baseline(tmp_path, report(), missing_ok=True) is None
    with pytest.raises(UsageError, match="--update-baseline keeps this report as one"):
        find_baseline(tmp_path, report(), missing_ok=False)
    with pytest.raises(UsageError, match="no measured latency"):
        keep_baseline(tmp_path, report(latency=None))


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as exited:
        cli_support.run_and_exit(cli, ["gate", *map(str, arguments)])
    return exited.value.code


def write(folder: Path, found: Report) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(found.to_json())
    return folder


def test_the_life_of_a_baseline(tmp_path: Path):
    out, kept = tmp_path / "out", tmp_path / "baselines"
    write(out, slower(1.0))
    assert run(out, "--baseline", kept) == 2
    assert run(out, "--baseline", kept, "--update-baseline") == 0
    first = (kept / "net.cpu.json").read_text()
    write(out, slower(1.15))
    assert run(out, "--baseline", kept, "--update-baseline", "-q") == 1
    assert (kept / "net.cpu.json").read_text() == first
    write(out, slower(0.9))
    assert run(out, "--baseline", kept, "--update-baseline", "--json") == 0
    assert (kept / "net.cpu.json").read_text() != first
    assert run(out, "--update-baseline") == 2


def test_unreliable_has_an_exit_code_of_its_own_where_that_is_asked_for(tmp_path: Path):
    out = write(tmp_path / "out", throttled(1.3, 0.3))
    assert run(out, "--max-latency-ms", 2) == 0
    assert run(out, "--max-latency-ms", 2, "--require-reliable") == 6
    assert run(out, "--max-latency-ms", 2, "--max-drop", 0.1, "--require-reliable") == 1
