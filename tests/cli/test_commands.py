"""The command line from outside: exit codes, one sentence on standard error, nothing half-written."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import onnx
import onnx.parser
import pytest

from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from edgeprune.errors import BackendError, BudgetError, EdgepruneError, ModelError, UsageError
from edgeprune.pytorch.export import DEFAULT_OPSET
from tests.reports import report

NET = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) { y = Relu(x) }
"""


def run(*arguments: object) -> int:
    """Exit code of a command, in this process."""
    with pytest.raises(SystemExit) as exited:
        cli_support.run_and_exit(cli, [str(a) for a in arguments])
    assert isinstance(exited.value.code, int)
    return exited.value.code


@pytest.fixture
def net(tmp_path: Path) -> Path:
    file = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(NET), file)
    return file


CPU = ("--target", "cpu", "--speedup", "2")


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text(report().to_json())
    return tmp_path / "out"


@pytest.mark.parametrize("name", [None, *sorted(cli.commands)])
def test_every_command_and_option_has_help(name: str | None, capsys: pytest.CaptureFixture[str]):
    assert run(*([name] if name else []), "--help") == 0
    assert "Usage: edgeprune" in capsys.readouterr().out
    command = cli.commands[name] if name else cli
    assert command.help
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_the_default_opset_that_help_names_is_the_one_taken():
    (option,) = (p for p in cli.commands["export"].params if isinstance(p, click.Option) and p.name == "opset")
    assert f"[default: {DEFAULT_OPSET}]" in str(option.help)


def test_version(capsys: pytest.CaptureFixture[str]):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("edgeprune, version ")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["compile", "{net}"], 2, "Missing option '--target'"),
        (
            ["compile", "{net}", "--target", "cpu", "--speedup", "2", "--latency-ms", "1", "--calib", "random"],
            2,
            "give one",
        ),
        (["compile", "{net}", "--target", "cpu", "--speedup", "-2"], 2, "--speedup"),
        (["compile", "{net}", "--target", "cpu", "--shape", "x"], 2, "x"),
        (["compile", "{net}", "--target", "cpu", "--mean", "a,b"], 2, "--mean takes numbers"),
        (["compile", "{net}", "--target", "cpu", "--size", "0x3"], 2, "--size takes HEIGHTxWIDTH"),
        (["prune", "{net}", "--ratio", "1.0"], 2, "--ratio"),
        (["bench", "{net}", "--target", "orin"], 5, "'orin'"),
        (["bench", "{net}", "--target", "toaster"], 2, "toaster"),
        (["compile", "{net}", "--target", "../toaster"], 2, "toaster"),
        (["predict", "{net}", "--target", "toaster"], 2, "toaster"),
        (["profile", "--target", "toaster"], 2, "toaster"),
        (["profile", "--target", "cpu"], 2, "give the MODEL"),
        (["inspect", "{net}", "--why", "nothing"], 3, "nothing"),
        (["predict", "{net}", "--target", "cpu"], 5, "cpu"),
        (["predict", "{net}", "--target", "orin", "--power-mode", "9000W"], 2, "9000W"),
        (["bench", "{net}", "--shape", "z=1"], 2, "names 'z', which is not an input; the inputs are x"),
        (["bench", "{tmp}/none.onnx"], 3, "none.onnx"),
        (["bench", "{tmp}/text.onnx"], 3, "text.onnx"),
        (["gate", "{tmp}"], 2, "report.json"),
        (["gate", "{tmp}/text.onnx", "--max-drop", "1"], 2, "is not JSON"),
        (["gate", "{tmp}", "--max-regression", "7"], 2, "write 7% for a percentage"),
        (["gate", "{tmp}", "--noise", "x"], 2, "takes a percentage such as 5%"),
        (["no-such-command"], 2, "no-such-command"),
        # What a newcomer gets wrong first: the sentence says what to do.
        (["compile", "{net}"], 2, "`edgeprune targets` lists all"),
        (["inspect", "{tmp}/text.pth"], 3, "but a checkpoint: `edgeprune export` makes one"),
        (["inspect", "{tmp}/text.engine"], 3, "but a .engine file: give the ONNX file"),
        (["compile", "{net}", *CPU, "--calib", "none"], 2, "--calib: none does not exist"),
        (["compile", "{net}", *CPU, "--calib", "x=none"], 2, "--calib: x=none does not exist"),
        (["compile", "{net}", *CPU, "--calib", "random", "--eval", "none.npz"], 2, "--eval: none.npz does not exist"),
        (["compile", "{net}", *CPU, "--calib", "random", "--eval", "none.py:f"], 2, "--eval: none.py does not exist"),
        (["compile", "{net}", *CPU, "--calib", "a.py:f", "--mean", "1"], 2, "--calib: a.py does not exist"),
        (["predict", "{net}", "--target", "cpu"], 5, "`edgeprune bench` measures a model"),
        (["bench", "{net}", "--target", "orin"], 5, "give its address with --device ssh://user@host"),
        (["prune", "{net}", "--ratio", "30"], 2, "'30' is more than the whole; 30% would be 0.3"),
        (["prune", "{net}", "--ratio", "a third"], 2, "'a third' is not a fraction such as 0.3, or 30%"),
        (["prune", "{net}", "--ratio", "100%"], 2, "0<=x<1"),
        (["prune", "{net}", "--ratio", "0.3", "--criterion", "l3"], 2, "there is no criterion 'l3'; there are"),
        (["apply", "none.json", "{tmp}/text.pth"], 2, "cannot read 'none.json': No such file or directory"),
        (["sweep", "{tmp}/none.toml"], 2, "none.toml': No such file or directory"),
    ],
)
def test_a_bad_call_is_one_sentence(
    arguments: list[str], code: int, sentence: str, net: Path, capsys: pytest.CaptureFixture[str]
):
    for suffix in ("onnx", "pth", "engine"):
        (net.parent / f"text.{suffix}").write_text("not a model")
    before = sorted(net.parent.iterdir())
    assert run(*(a.format(net=net, tmp=net.parent) for a in arguments)) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("edgeprune: ")
    assert said.err.count("\n") == 1
    assert sentence in said.err
    assert sorted(net.parent.iterdir()) == before


def test_gate_exit_codes_and_files(reported: Path, capsys: pytest.CaptureFixture[str]):
    assert run("gate", reported, "--max-latency-ms", 3, "--max-drop", 1, "--baseline", reported) == 0
    assert capsys.readouterr().out.count("pass ") == 3
    markdown, junit = reported / "gate.md", reported / "gate.xml"
    assert run("gate", reported / "report.json", "--max-latency-ms", 1, "--markdown", markdown, "--junit", junit) == 1
    assert capsys.readouterr().out.startswith("fail ")
    assert "gate: failed" in markdown.read_text()
    assert 'failures="1"' in junit.read_text()


def test_gate_takes_shares(reported: Path):
    assert run("gate", reported, "--baseline", reported, "--max-regression", "5%", "--noise", "0.02", "-q") == 0


def test_report_is_shown_and_written(reported: Path, capsys: pytest.CaptureFixture[str]):
    page, text = reported / "r.html", reported / "r.md"
    assert run("report", reported, "--html", page, "--markdown", text) == 0
    assert "net.onnx compiled for cpu" in capsys.readouterr().out
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert text.read_text().startswith("## edgeprune")


def test_targets_are_listed(capsys: pytest.CaptureFixture[str]):
    assert run("targets", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["cpu"]["source"] == "measured at first use"
    assert run("targets") == 0
    assert listed["orin"]["title"] in capsys.readouterr().out


def test_an_analytic_profile_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("profile", "--target", "orin", "-o", tmp_path / "orin.json") == 0
    assert run("profile", "--target", "orin") == 0
    assert json.loads((tmp_path / "orin.json").read_text()) == json.loads(capsys.readouterr().out)


def test_predictions_are_printed(net: Path, capsys: pytest.CaptureFixture[str]):
    assert run("predict", net, "--target", "orin", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["latency_ms"] > 0
    assert found["error"] > 0
    assert run("predict", net, "--target", "orin", "--precision", "int8", "--power-mode", "15W") == 0
    assert "ms predicted, not measured, on orin (15W), int8" in capsys.readouterr().out


def test_bench_prints_json(net: Path, capsys: pytest.CaptureFixture[str]):
    assert run("bench", net, net, "--seconds", "0.01", "--json", "-q") == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.err == ""
    assert list(found["measurements"]) == [str(net), f"{net} (2)"]
    assert found["speedup"]["ci_low"] <= found["speedup"]["value"] <= found["speedup"]["ci_high"]


def test_bench_prints_a_table(net: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CI", raising=False)
    assert run("bench", net, "--seconds", "0.01") == 0
    said = capsys.readouterr()
    assert "95% interval" in said.out
    assert said.err.startswith("measuring: ")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (EdgepruneError("odd"), 2, "odd"),
        (UsageError("two\n lines"), 2, "two lines"),
        (ModelError("node a is bad"), 3, "node a is bad"),
        (BudgetError("4 ms is what there is"), 4, "4 ms is what there is"),
        (BackendError("no device"), 5, "no device"),
        (MemoryError(), 5, "this machine has not enough memory for this model"),
        (PermissionError(13, "Permission denied", "/x"), 2, "Permission denied '/x'"),
        (OSError("odd"), 2, "odd"),
        (ZeroDivisionError("by zero"), 3, "internal error in edgeprune (ZeroDivisionError: by zero)"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_errors_and_their_exit_codes(
    error: BaseException, code: int, sentence: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("EDGEPRUNE_DEBUG", raising=False)
    found, said = fail(error, capfd)
    assert found == code
    assert sentence in said
    assert "Traceback" not in said
    assert said.count("\n") == (1 if sentence else 0)


@pytest.mark.parametrize(("arguments", "debug"), [(["-v"], "0"), ([], "1")])
def test_the_traceback_is_shown_when_asked_for(
    arguments: list[str], debug: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EDGEPRUNE_DEBUG", debug)
    code, said = fail(ModelError("node a is bad"), capfd, *arguments)
    assert code == 3
    assert "Traceback" in said
    assert said.endswith("edgeprune: node a is bad\n")


def fail(error: BaseException, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command that raises."""

    @click.group()
    def group() -> None:
        pass

    @group.command()
    @cli_support.verbosity_options
    def command(verbosity: cli_support.Verbosity) -> None:
        raise error

    with pytest.raises(SystemExit) as exited:
        cli_support.run_and_exit(group, ["command", *arguments])
    assert isinstance(exited.value.code, int)
    return exited.value.code, capfd.readouterr().err


INTERRUPTIBLE = """
import os, signal, sys, click
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
from pathlib import Path
from edgeprune.cli import support
from edgeprune.support import output_folder

@click.group()
def group(): pass

@group.command()
def work():
    with output_folder(Path("out")) as folder:
        (folder / "dense.onnx").write_text("half")
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        while True:
            pass

support.run_and_exit(group, ["work"])
"""


@pytest.mark.parametrize(("signal_name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_leave_nothing_half_written(signal_name: str, code: int, tmp_path: Path):
    command = [sys.executable, "-c", INTERRUPTIBLE, signal_name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_closed_pipe_is_no_error():
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "edgeprune", "--help"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]):
    assert run("completion", shell) == 0
    assert cli_support.COMPLETE_VARIABLE in capsys.readouterr().out


def test_bash_is_told_what_fits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv(cli_support.COMPLETE_VARIABLE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "edgeprune compile --target orin-n")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert run() == 0
    assert "plain,orin-nano-8" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("variables", "arguments", "verbosity"), [("1", [], False), ("1", ["-v"], True), ("", [], True)]
)
def test_no_progress_in_ci_unless_asked_for(
    variables: str,
    arguments: list[str],
    verbosity: bool,
    net: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("CI", variables)
    assert run("bench", net, "--seconds", "0.01", *arguments) == 0
    assert ("measuring" in capsys.readouterr().err) is verbosity


def test_a_smallest_share_without_a_size_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prune", "net.onnx", "--ratio", 0.3, "--smallest", 0.5) == UsageError.exit_code
    assert "--smallest goes with --macs and --parameters" in capsys.readouterr().err


def test_imports_are_no_garbage_while_a_command_runs() -> None:
    during = []

    @click.group()
    def group() -> None:
        pass

    @group.command()
    def work() -> None:
        cli_support.set_imports_aside()
        during.append(gc.get_freeze_count())

    with pytest.raises(SystemExit):
        cli_support.run_and_exit(group, ["work"])
    assert during[0] > gc.get_freeze_count()
