"""What `inspect` shows."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from edgeprune import graph
from edgeprune.dependency.inspection import Inspection, inspect_model
from edgeprune.errors import ModelError
from tests.models import single
from tests.passes.models import parse
from tests.small_models import build, normal


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


def test_proposed_sizes_run(tmp_path: Path) -> None:
    """Shape inference accepts a reflection of 64 samples at any length; onnxruntime needs more than 64."""
    text = """g (float[?,?] x, float[2,?,4] state) => (float[a,b] y, float[2,c,4] next) {
        y = Pad<mode="reflect">(x, pads)
        next = Tanh(state)
    }"""
    model = parse(text, pads=np.array([0, 0, 0, 64]))
    graph.save(model, tmp_path / "voice.onnx")
    (note,) = inspect_model(tmp_path / "voice.onnx").warnings
    assert note == "input x: 1x96, proposed from the graph: --shape to change"


def test_a_model_that_runs_at_no_size_is_inspected(tmp_path: Path) -> None:
    model = parse("g (float[a,5,w] x) => (float[p,q,r] y) { y = Reshape(x, never) }", never=np.array([3, 7, 11]))
    graph.save(model, tmp_path / "never.onnx")
    assert inspect_model(tmp_path / "never.onnx").nodes == 1


def test_why_of_a_node_a_group_and_a_misspelled_name(inspection: Inspection) -> None:
    of_node = {line.split()[0] for line in inspection.why("Conv_0")}
    assert "w1" in of_node
    assert len(of_node) == 2
    assert {line.split()[0] for line in inspection.why("w1:0")} == {"w1", "w2"}
    with pytest.raises(ModelError, match=r"no tensor 'W3' of known shape; there|no tensor 'W3' of known shape$"):
        inspection.why("W3")
    with pytest.raises(ModelError, match=r"the nearest (is|are) 'w1"):
        inspection.why("ww1")


def test_why_of_a_weight_that_the_canonical_form_split() -> None:
    split = build(
        """g (float[1, 8] x) => (float[1, 8] y) {
            a = MatMul(x, qkv_0) b = MatMul(x, qkv_1) y = Add(a, b) }""",
        qkv_0=normal(8, 8),
        qkv_1=normal(8, 8),
    )
    assert {line.split()[0] for line in inspect_model(split).why("qkv")} == {"qkv_0", "qkv_1"}


def test_a_vector_that_layers_share_without_being_calls_of_one_is_named(tmp_path: Path) -> None:
    text = """g (float[1,6,4,4] x) => (float[1,6,4,4] y) { h = Conv(x, w1, zeros) r = Relu(h) k = Conv(r, w2, zeros)
        s = Relu(k) y = Conv(s, w3, zeros) }"""
    weights = {name: normal(6, 6, 1, 1, seed=seed) for seed, name in enumerate(("w1", "w2", "w3"))}
    graph.save(build(text, **weights, zeros=normal(6)), tmp_path / "m.onnx")
    (said,) = inspect_model(tmp_path / "m.onnx").warnings
    assert said.startswith(
        "'zeros' is stored once for 3 places that are no calls of one layer: each place has its own copy"
    )
