"""Files of an output folder: writes report.json and report.html, reads plan.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune.errors import UsageError
from edgeprune.report.graph_view import Picture
from edgeprune.report.html import to_html
from edgeprune.report.model import Report


def write_report(folder: Path, report: Report, picture: Picture | None = None) -> None:
    """Write report.json and report.html into a folder; its plan.json, if any, must exist already.

    Args:
        folder: the output folder.
        report: what was measured.
        picture: the dense graph, to be drawn.
    """
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    (folder / "report.html").write_text(to_html(report, read_plan(folder), picture), encoding="utf-8")


def read_plan(folder: Path) -> Mapping[str, Any]:
    """The content of plan.json in an output folder; empty if there is none.

    Raises:
        UsageError: The file is not a JSON object.
    """
    file = folder / "plan.json"
    if not file.is_file():
        return {}
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file} is not JSON: {error}") from error
    if not isinstance(plan, dict):
        raise UsageError(f"{file} is not a JSON object")
    return plan
