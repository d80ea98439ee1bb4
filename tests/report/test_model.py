from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from edgeprune.errors import UsageError
from edgeprune.report.model import Report
from tests.reports import report

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8"))


def test_round_trip(tmp_path: Path):
    whole = report()
    assert Report.from_json(whole.to_json()) == whole
    (tmp_path / "report.json").write_text(whole.to_json())
    assert Report.load(tmp_path) == Report.load(tmp_path / "report.json") == whole


@pytest.mark.parametrize("changes", [{}, {"latency": None, "predicted": None, "accuracy": None, "calibration": None}])
def test_the_published_schema_holds(changes: dict[str, None]):
    jsonschema.validate(json.loads(report(**changes).to_json()), SCHEMA)


def test_the_published_schema_knows_every_key():
    def check(data: object, schema: dict[str, object], place: str) -> None:
        if isinstance(data, dict) and "properties" in schema:
            assert set(data) == set(schema["properties"]), place
            assert set(schema["required"]) <= set(data), place
            for key, value in data.items():
                branch = schema["properties"][key]
                branch = branch["anyOf"][0] if "anyOf" in branch else branch
                branch = SCHEMA["$defs"][branch["$ref"].rpartition("/")[2]] if "$ref" in branch else branch
                check(value, branch, f"{place}.{key}")

    check(json.loads(report().to_json()), SCHEMA, "report")


def test_a_folder_without_a_report_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot read .*report\.json"):
        Report.load(tmp_path)
