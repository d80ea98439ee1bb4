"""Recipes: from flags to TOML, to a report and back, and their command line."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from pathlib import Path

import click
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgeprune.calibration import CalibrationSpec
from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from edgeprune.cli.recipe import effective
from edgeprune.compiler.recipe import Recipe, recipe_of
from edgeprune.errors import UsageError

FLAGS = [
    *("--target", "orin", "--latency-ms", "3.5", "--calib", "data.py:images", "--calib-samples", "64"),
    *(
        "--mean",
        "0.485,0.456,0.406",
        "--std",
        "1,1,1",
        "--layout",
        "NHWC",
        "--size",
        "224",
        "--eval",
        "/abs/labels.npz",
    ),
    *("--precision", "int8", "--sparsity", "none", "--power-mode", "15W", "--threads", "2"),
    *("--shape", "x=1x3x48x320", "--shape", "mask=1x1", "--seed", "7"),
]


def parsed(*arguments: str) -> Recipe:
    with cli.commands["compile"].make_context("compile", list(arguments), parent=click.Context(cli)) as context:
        return effective(context)


def test_every_flag_is_the_same_after_writing_and_reading_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    asked = parsed("net.onnx", *FLAGS)
    assert asked.values["shape"] == ["x=1x3x48x320", "mask=1x1"]
    assert asked.values["size"] == "224x224"
    Path("r.toml").write_text(asked.to_toml())
    assert parsed("--recipe", "r.toml") == asked
    Path("report.json").write_text(json.dumps({"recipe": dict(asked.values)}))
    assert parsed("--recipe", "report.json") == asked
    assert parsed("--recipe", ".") == asked


def test_its_command_line_gives_the_same_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    asked = parsed("net.onnx", *FLAGS)
    assert parsed(*shlex.split(asked.command())[2:]) == asked


def test_flags_replace_those_of_the_recipe(tmp_path: Path):
    file = tmp_path / "r.toml"
    file.write_text('model = "net.onnx"\ntarget = "orin"\nlatency_ms = 4\nshape = "x=1x3"\nmean = [0.5, 0.5, 0.5]\n')
    found = parsed("--recipe", str(file), "--target", "cpu", "other.onnx").values
    assert (found["target"], found["model"], found["latency-ms"]) == ("cpu", "other.onnx", 4.0)
    assert (found["shape"], found["mean"]) == (["x=1x3"], "0.5,0.5,0.5")


def test_a_budget_given_replaces_that_of_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "r.toml"
    file.write_text('model = "none.onnx"\ntarget = "cpu"\nspeedup = 2\ncalib = "random"\n')
    found = parsed("--recipe", str(file), "--latency-ms", "3").values
    assert found["latency-ms"] == 3.0
    assert "speedup" not in found
    with pytest.raises(SystemExit):
        cli_support.run_and_exit(cli, ["compile", "--recipe", str(file), "--latency-ms", "3"])
    assert "give one" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli_support.run_and_exit(cli, ["compile", "--recipe", str(file), "--latency-ms", "3", "--speedup", "2"])
    assert "give one" in capsys.readouterr().err


def test_paths_are_relative_to_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "recipes").mkdir()
    lines = ['model = "../net.onnx"', 'target = "cpu"', 'calib = "d.py:f"', 'eval = "/e.npz"', 'out = "o"']
    (tmp_path / "recipes" / "r.toml").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    found = parsed("--recipe", "recipes/r.toml")
    assert (found.values["model"], found.values["calib"], found.values["eval"]) == (
        "net.onnx",
        "recipes/d.py:f",
        "/e.npz",
    )
    moved = found.moved_to(tmp_path / "net.cpu")
    assert (moved.values["model"], moved.values["calib"]) == ("../net.onnx", "../recipes/d.py:f")
    assert (
        parsed("net.onnx", "--target", "cpu", "--calib", "random").moved_to(tmp_path / "x").values["calib"] == "random"
    )


names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)


@given(*[names] * 4, st.booleans())
@settings(max_examples=60, deadline=None)
def test_paths_with_any_names_lead_to_the_same_files(model: str, photos: str, folder: str, out: str, in_folder: bool):
    """A recipe is written into a result, and read from another working folder, as a file and as a command line."""
    assume(not {model, photos, folder, out} & {".", "..", "random"})
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        top = Path(temporary).resolve() / folder
        place = top / out
        place.mkdir(parents=True)
        patch.chdir(top)
        asked = recipe_of({"model": f"./{model}", "target": "cpu", "calibration": CalibrationSpec(photos)})
        stored = asked.moved_to(Path(out))
        (place / "r.toml").write_text(stored.to_toml(), encoding="utf-8")
        patch.chdir(place if in_folder else temporary)
        words = shlex.split(stored.command(out="again"))[2:]
        for found in (parsed("--recipe", str(place / "r.toml")), *([parsed(*words)] if in_folder else [])):
            leads_to = {
                name: Path(os.path.normpath(found.folder / str(found.values[name]))) for name in ("model", "calib")
            }
            assert leads_to == {"model": top / model, "calib": top / photos}


def test_sources_of_several_inputs_are_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    flags = [f for source in ("left=p/l", "right=/r", "mask=random", "pose=d.py:f") for f in ("--calib", source)]
    found = parsed("net.onnx", "--target", "cpu", *flags)
    calibration = CalibrationSpec({"left": "p/l", "right": "/r", "mask": "random", "pose": "d.py:f"})
    assert recipe_of({"calibration": calibration}).values["calib"] == found.values["calib"]
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "r.toml").write_text(found.moved_to(tmp_path / "o").to_toml())
    assert 'calib = ["left=../p/l", "right=/r", "mask=random", "pose=../d.py:f"]' in (tmp_path / "o/r.toml").read_text()
    assert parsed("--recipe", "o/r.toml").values["calib"] == found.values["calib"]
    assert parsed("net.onnx", "--target", "cpu", "--calib", "x=p").values["calib"] == ["x=p"]
    with pytest.raises(UsageError, match=r"--calib is given 2 times: .*, as in --calib NAME=b"):
        parsed("net.onnx", "--target", "cpu", "--calib", "left=a", "--calib", "b")
    with pytest.raises(UsageError, match="--calib names an input twice"):
        parsed("net.onnx", "--target", "cpu", "--calib", "left=a", "--calib", "left=b")


def test_a_folder_with_the_name_of_no_keyword_is_a_path(tmp_path: Path):
    found = parsed("net.onnx", "--target", "orin", "--calib", "photos", "--surgery", "efficient-nms:score=0.3")
    moved = found.moved_to(tmp_path)
    assert (tmp_path / str(moved.values["calib"])).resolve() == Path("photos").resolve()
    assert moved.values["surgery"] == "efficient-nms:score=0.3"


def test_a_call_from_python_has_the_recipe_of_its_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    data = CalibrationSpec("photos", mean=(0.5, 0.5, 0.5), std=(1, 1, 1), size=(64, 96), limit=32)
    called = recipe_of(
        {
            "model": Path("net.onnx"),
            "target": "cpu",
            "latency_ms": None,
            "speedup": 2.0,
            "calibration": data,
            "evaluation": "e.npz",
            "shapes": {"x": (1, 3, 64, 96)},
            "force": True,
            "threads": 1,
        }
    )
    flags = ["--speedup", "2", "--calib", "photos", "--mean", "0.5,0.5,0.5", "--std", "1,1,1", "--size", "64x96"]
    asked = parsed(
        "net.onnx", "--target", "cpu", *flags, "--calib-samples", "32", "--eval", "e.npz", "--shape", "x=1x3x64x96"
    )
    assert called.values.items() <= asked.values.items()
    assert parsed(*shlex.split(called.command())[2:]) == asked


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("latency-mss = 4", "'latency-mss' is no flag of `edgeprune compile`; did you mean 'latency-ms'?"),
        ("quiet = true", "'quiet' is no flag"),
        ("target = ", "is not TOML"),
        ("seed = {a = 1}", "neither text, nor a number"),
        ("shape = [[1]]", "the value of 'shape'"),
    ],
)
def test_a_bad_recipe_is_refused(text: str, sentence: str, tmp_path: Path):
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        parsed("--recipe", str(file))
    assert sentence in str(refused.value)
    assert "r.toml" in str(refused.value)


def test_files_without_a_recipe_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="No such file"):
        parsed("--recipe", str(tmp_path / "none.toml"))
    (tmp_path / "report.json").write_text('{"command": "prune"}')
    with pytest.raises(UsageError, match="holds no recipe"):
        parsed("--recipe", str(tmp_path))
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        parsed("--recipe", str(tmp_path))


def show(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as exited:
        cli_support.run_and_exit(cli, ["recipe", "show", *arguments])
    said = capsys.readouterr()
    return exited.value.code, said.out, said.err


def test_show_prints_the_effective_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    code, out, _ = show(capsys, "net.onnx", "--target", "orin", "--speedup", "2")
    assert code == 0
    assert 'model = "net.onnx"\ntarget = "orin"\nspeedup = 2.0\n' in out
    assert "threads = 1  # default\n" in out
    Path("r.toml").write_text(out)
    code, again, _ = show(capsys, "r.toml", "--threads", "3")
    assert code == 0
    assert "threads = 3\n" in again
    code, command, _ = show(capsys, "r.toml", "--command")
    assert command.startswith("edgeprune compile net.onnx --target orin --speedup 2.0 ")
    code, out, err = show(capsys, "none.toml")
    assert (code, out) == (2, "")
    assert err.startswith("edgeprune: cannot read the recipe 'none.toml'")
