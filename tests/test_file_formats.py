"""Every file and every --json that a command writes is of its published schema."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
import referencing

from edgeprune.backends import EngineSample
from edgeprune.cli.commands import cli
from edgeprune.latency.bench import BenchResult
from edgeprune.pytorch.apply import Applied
from edgeprune.pytorch.export import Attempt, Exported
from edgeprune.report.pareto_curve import Point, point_of
from edgeprune.timing import Memory
from tests.documents import hooks
from tests.gate.test_engine import engine
from tests.gate.test_spread import engines
from tests.models import single
from tests.quick_timing import time_quickly
from tests.report.test_rival import rival
from tests.reports import curve, measurement, report

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in (ROOT / "docs").glob("*.schema.json")}
REGISTRY: referencing.Registry[Any] = referencing.Registry().with_resources(
    (name, referencing.Resource.from_contents(schema)) for name, schema in SCHEMAS.items()
)


def check(data: object, name: str) -> None:
    """Validate; and since the test is to notice a format that grew, refuse keys that the schema does not name."""
    schema = SCHEMAS[f"{name}.schema.json"]
    jsonschema.Draft202012Validator(strict(schema), registry=REGISTRY).validate(data)


def strict(schema: Any) -> Any:
    """The schema with no room for keys that it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: strict(value) for key, value in schema.items()}
    closed = "properties" in schema and schema.get("type") == "object"
    return inner | ({"additionalProperties": False} if closed else {})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edgeprune.graph import model_io as graph

    folder = tmp_path_factory.mktemp("formats")
    built = single(
        "g (float[1,3,8,8] x) => (float[1,4,8,8] y) { h = Conv(x, w1) r = Relu(h) y = Conv(r, w2) }",
        w1=(16, 3, 1, 1),
        w2=(4, 16, 1, 1),
    )
    graph.save(built, folder / "net.onnx")
    onnx.checker.check_model(folder / "net.onnx")
    return folder / "net.onnx"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    def call(*arguments: object) -> Any:
        with cli.make_context("edgeprune", [str(a) for a in arguments]) as context:
            cli.invoke(context)
        return json.loads(capsys.readouterr().out)

    return call


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_schemas_are_schemas(name: str):
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])


def test_a_prune(model: Path, tmp_path: Path, run: Callable[..., Any]):
    shown = run("prune", model, "--ratio", 0.5, "--no-compensate", "-o", tmp_path / "out", "--json", "-q")
    check(shown, "report")
    check(json.loads((tmp_path / "out" / "report.json").read_text()), "report")
    check(json.loads((tmp_path / "out" / "plan.json").read_text()), "plan")
    check(run("report", tmp_path / "out", "--json"), "report")
    for one in run("report", tmp_path / "out", tmp_path / "out", "--json"):
        check(one, "report")


def test_what_the_commands_print(model: Path, run: Callable[..., Any]):
    check(run("inspect", model, "--json"), "inspect")
    check(run("targets", "--json"), "targets")
    check(run("predict", model, "--target", "orin", "--json"), "predict")
    check(run("doctor", "--json"), "doctor")
    check(run("bench", model, "--seconds", 0.2, "--json", "-q"), "bench")
    samples = {"a": (EngineSample("ssh://one", 0, measurement(1.0)),)}
    taken = {"a": Memory(12.0, None, None, 400.0, "loading")}
    elsewhere = BenchResult("d", "r", None, {"a": measurement(1.0)}, None, {}, samples, taken).to_json()
    check(json.loads(json.dumps(elsewhere)), "bench")


def test_a_verdict(tmp_path: Path, run: Callable[..., Any]):
    (tmp_path / "report.json").write_text(report().to_json(), encoding="utf-8")
    limits = ("--max-latency-ms", 3, "--max-drop", 1, "--max-predicted-ms", 9, "--baseline", tmp_path)
    check(run("gate", tmp_path, *limits, "--json"), "gate")
    several = engines(2.0, 2.1, boards=("a", "b"))
    several = dataclasses.replace(several, memory={"result": Memory(12.5, 9.5, 3.0, 410.0, "build")})
    check(json.loads(several.to_json()), "report")
    whole = report(latency=None, engine=engine(), rival=rival())
    check(json.loads(whole.to_json()), "report")
    (tmp_path / "report.json").write_text(whole.to_json(), encoding="utf-8")
    check(run("gate", tmp_path, "--baseline", tmp_path, "--max-drop", 1, "--json"), "gate")


def test_what_export_and_apply_print():
    tried = (Attempt("dynamo", None, 0, "cannot"), Attempt("torchscript", 1e-7, 9))
    inputs = {"x": ["batch", 3, 8, 8]}
    check(Exported(Path("a.onnx"), "torchscript", 18, inputs, 1e-7, tried, ("a note",)).to_json(), "export")
    check(Applied(Path("a.pt"), "compiled", 9, (100, 50), "outputs", 1e-7, ("a note",)).to_json(), "apply")


def test_a_measured_profile(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    time_quickly(monkeypatch)
    with cli.make_context(
        "edgeprune", ["profile", str(model), "--target", "cpu", "-q", "-o", str(tmp_path / "p.json")]
    ) as c:
        cli.invoke(c)
    check(json.loads((tmp_path / "p.json").read_text()), "measured-profile")


def test_a_curve():
    made = curve(point_of(2.0, "2x", report()), Point(9.0, False, "no choice is so fast"))
    made = dataclasses.replace(made, rival=rival())
    check(json.loads(made.to_json()), "pareto")


@pytest.mark.parametrize("file", sorted((ROOT / "hwprofiles").glob("*.json")), ids=lambda file: file.stem)
def test_device_profiles(file: Path):
    schema = hooks.profile_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    if file.name != "schema.json":
        jsonschema.validate(json.loads(file.read_text(encoding="utf-8")), schema)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_a_recipe(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import tomllib

    np.savez(tmp_path / "calib.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    arguments = [
        "recipe",
        "show",
        str(model),
        "--target",
        "cpu",
        "--speedup",
        "2",
        "--calib",
        str(tmp_path / "calib.npz"),
    ]
    with cli.make_context("edgeprune", arguments) as context:
        cli.invoke(context)
    recipe = tomllib.loads(capsys.readouterr().out)
    schema = hooks.recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(recipe, schema)
    assert recipe["speedup"] == 2
