from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from edgeprune.errors import UsageError
from edgeprune.gate.baselines import baseline_file, find_baseline, keep_baseline, slower_machine, why_no_baseline
from edgeprune.report.model import Prediction, Report
from tests.gate.test_gate import slower, throttled
from tests.reports import latency, measurement, report


def test_a_folder_keeps_one_a_model_and_target(tmp_path: Path):
    kept = keep_baseline(tmp_path / "ci", report())
    assert kept == tmp_path / "ci" / "net.cpu.json"
    again = find_baseline(tmp_path / "ci", report(), missing_ok=False)
    assert again is not None
    assert again.latency == report().latency
    assert again.refused == again.warnings == ()
    assert baseline_file(tmp_path / "x.json", report()) == tmp_path / "x.json"


def test_what_is_missing_or_has_no_latency_is_refused(tmp_path: Path):
    assert find_baseline(tmp_path, report(), missing_ok=True) is None
    with pytest.raises(UsageError, match="--update-baseline keeps this report as one"):
        find_baseline(tmp_path, report(), missing_ok=False)
    with pytest.raises(UsageError, match="neither a measured nor a predicted latency"):
        keep_baseline(tmp_path, report(latency=None, predicted=None))


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


def test_every_kind_of_machine_has_its_own(tmp_path: Path):
    out, kept = tmp_path / "out", tmp_path / "baselines"
    here, elsewhere = slower(1.0), report(latency=latency(measurement(6.0), measurement(1.0), device="Other"))
    write(out, here)
    assert run(out, "--baseline", kept, "--update-baseline") == 0
    write(out, elsewhere)
    assert run(out, "--baseline", kept, "--require-reliable") == 6
    assert run(out, "--baseline", kept) == 0
    assert run(out, "--baseline", kept, "--update-baseline") == 0
    assert run(out, "--baseline", kept, "--require-reliable") == 0
    names = sorted(file.name for file in kept.iterdir())
    assert len(names) == 2
    assert re.fullmatch(r"net\.cpu\.[0-9a-f]{8}\.json", names[0])
    assert names[1] == "net.cpu.json"
    assert Report.load(kept / "net.cpu.json").latency == here.latency
    write(out, slower(1.15))
    assert run(out, "--baseline", kept) == 1


def test_a_baseline_of_a_device_that_is_not_at_hand(tmp_path: Path):
    out, kept = tmp_path / "out", tmp_path / "baselines"
    write(out, report(latency=None))
    assert run(out, "--baseline", kept, "--update-baseline", "--max-predicted-ms", 3) == 0
    assert run(out, "--baseline", kept) == 0
    write(out, report(latency=None, predicted=Prediction(6.1, 2.3, "analytic", 0.05)))
    assert run(out, "--baseline", kept) == 1
    write(out, slower(1.0))
    assert run(out, "--baseline", kept) == 2


def test_a_disturbed_measurement_is_no_baseline_unless_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, kept = write(tmp_path / "out", throttled(1.0, 0.3)), tmp_path / "baselines"
    assert run(out, "--baseline", kept, "--update-baseline") == 6
    assert not kept.exists()
    said = capsys.readouterr().err
    assert "not kept as a baseline: the original became" in said
    assert "measure again, for example with --runs 3, or add --accept-disturbed" in said
    assert run(out, "--baseline", kept, "--accept-disturbed") == 2
    assert run(out, "--baseline", kept, "--update-baseline", "--accept-disturbed") == 0
    again = Report.load(kept / "net.cpu.json")
    assert "the original became" in str(why_no_baseline(again))
    write(out, slower(1.4))
    assert run(out, "--baseline", kept) == 1


def test_unreliable_has_an_exit_code_of_its_own_where_that_is_asked_for(tmp_path: Path):
    out = write(tmp_path / "out", throttled(1.05, 0.3))
    assert run(out, "--max-latency-ms", 2) == 0
    assert run(out, "--max-latency-ms", 2, "--require-reliable") == 6
    assert run(out, "--max-latency-ms", 2, "--max-drop", 0.1, "--require-reliable") == 1


def test_another_device_is_no_yardstick():
    now, before = latency(measurement(9.0), measurement(3.0)), latency(measurement(6.0), measurement(2.0))
    assert "50% slower" in str(slower_machine(now, before))
    assert slower_machine(dataclasses.replace(now, device="other"), before) is None
    assert slower_machine(before, now) is None
