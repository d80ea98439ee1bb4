"""What `inspect` shows."""

import io
import json

import pytest
from rich.console import Console

from edgeprune.dependency.inspection import Inspection, inspect_model
from edgeprune.errors import ModelError
from tests.models import single


@pytest.fixture
def inspection() -> Inspection:
    model = single(
        """g (float[1,3,4,4] x) => (float[1,4,4,4] y) {
            h = Conv(x, w1)
            r = Relu(h)
            y = Conv(r, w2)
        }""",
        w1=(6, 3, 1, 1),
        w2=(4, 6, 1, 1),
    )
    return inspect_model(model)


def test_counts(inspection: Inspection) -> None:
    assert (inspection.nodes, inspection.parameters, inspection.macs) == (3, 42, 42 * 16)
    (row,) = inspection.groups
    assert (row.size, row.parameters, row.macs) == (6, 42, 42 * 16)
    assert row.tensors == (("w1", 0, "producer"), ("w2", 1, "consumer"))


def test_json(inspection: Inspection) -> None:
    data = json.loads(json.dumps(inspection.to_dict()))
    assert data["groups"][0]["unit"] == "channel"
    by_axis = {(f["tensor"], f["axis"]): f for f in data["frozen"]}
    assert by_axis["w2", 0]["reason"] == "output of the graph"
    assert by_axis["w2", 0]["node"] == "y"
    assert by_axis["w1", 1]["reason"] == "input of the graph"


def test_why_tells_each_axis_in_one_line(inspection: Inspection) -> None:
    lines = inspection.why("w1")
    assert len(lines) == 4
    assert lines[0].startswith("w1 axis 0 (length 6): cut by w1:0 (6 channels)")
    assert lines[1].startswith("w1 axis 1 (length 3): frozen: input of the graph [x]; reached through ")
    with pytest.raises(ModelError, match="no tensor 'nope'"):
        inspection.why("nope")


def test_tables(inspection: Inspection) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    for part in inspection.render(limit=1):
        console.print(part)
    text = console.export_text()
    assert "1 groups, 6 units that can be removed" in text.replace("\n", " ")
    assert "w1:0" in text
    assert "more: --json lists all" in text
