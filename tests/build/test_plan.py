import json
from pathlib import Path

import numpy as np
import pytest

from edgeprune.build.plan import AxisPlan, GroupPlan, LayerPlan, Plan, groups_of, initializers_of
from edgeprune.dependency.solve import analyse
from edgeprune.errors import UsageError
from edgeprune.testing.oracle import parse

PLAN = Plan(
    "cpu",
    "m.onnx",
    "00ff",
    (GroupPlan("w:0", "channel", 4, (0, 2), ("w", "h")), GroupPlan("v:0", "channel", 2, (0, 1), ("v",))),
    {"w": {0: AxisPlan("producer", (0, 2))}},
    (LayerPlan("conv", "Conv", "int8", "dense", 12.5), LayerPlan("relu", "Relu", "fp32")),
    2.5,
    1.25,
    7,
)


def test_round_trip(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN


def test_the_format_is_the_one_that_others_read() -> None:
    data = json.loads(json.dumps(PLAN.to_json()))
    assert set(data) == {"schema", "target", "model", "groups", "initializers", "layers", "latency_ms", "seed"}
    assert data["schema"] == 1
    assert data["model"] == {"file": "m.onnx", "sha256": "00ff"}
    assert data["groups"][0] == {"id": "w:0", "unit": "channel", "size": 4, "kept": [0, 2], "tensors": ["w", "h"]}
    assert data["initializers"] == {"w": {"0": {"role": "producer", "kept": [0, 2]}}}
    assert data["layers"][0] == {
        "node": "conv",
        "op": "Conv",
        "precision": "int8",
        "sparsity": "dense",
        "latency_us": 12.5,
        "reason": None,
    }
    assert data["latency_ms"] == {"baseline": 2.5, "predicted": 1.25}


def test_the_cut_names_only_groups_that_lose_something() -> None:
    assert list(PLAN.cut) == ["w:0"]
    assert PLAN.cut["w:0"].tolist() == [0, 2]


def test_what_a_cut_does_to_initializers() -> None:
    text = "g (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] y) { h = Conv(x, w1, b1) r = Relu(h) y = Conv(r, w2, b2) }"
    analysis = analyse(parse(text, w1=(4, 3, 1, 1), b1=(4,), w2=(2, 4, 1, 1), b2=(2,)))
    (group,) = analysis.groups
    cut = {group.id: np.array([1, 3])}
    found = initializers_of(analysis, cut)
    assert {name: {axis: (a.role, a.kept) for axis, a in axes.items()} for name, axes in found.items()} == {
        "w1": {0: ("producer", (1, 3))},
        "b1": {0: ("producer", (1, 3))},
        "w2": {1: ("consumer", (1, 3))},
    }
    (planned,) = groups_of(analysis, cut)
    assert (planned.size, planned.kept) == (4, (1, 3))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "contains no JSON object"),
        ("{", "is not a plan"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": 1}', "malformed"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match=reason):
        Plan.load(tmp_path / "plan.json")
