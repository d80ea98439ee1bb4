"""The walkthroughs of the documentation, followed to the letter."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx_ir as ir
import pytest

from edgeprune.dependency import dims
from edgeprune.dependency.solve import analyse
from edgeprune.devices.profile_schema import validate
from edgeprune.errors import ProfileError
from edgeprune.testing.oracle import parse

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def swish() -> ir.Model:
    """A graph around an operator that nobody knows."""
    return parse(
        """<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>
        g (float[1, 3, 4, 4] x) => (float[1, 4, 4, 4] y) <float[1, 6, 4, 4] a> {
            h = Conv(x, w1) a = com.acme.ScaledSwish(h, s) y = Conv(a, w2) }""",
        w1=(6, 3, 1, 1),
        s=(6,),
        w2=(4, 6, 1, 1),
    )


def test_an_operator_rule(monkeypatch: pytest.MonkeyPatch):
    before = analyse(swish())
    assert before.groups == ()
    assert str(before.why("w1", 0)[-1]).startswith("no rule for com.acme::ScaledSwish")
    monkeypatch.setattr(dims, "_RULES", dict(dims._RULES))
    relation, oracle = CODE.findall((ROOT / "docs" / "guides" / "operator-rule.md").read_text(encoding="utf-8"))
    exec(compile(relation, "operator-rule.md", "exec"), {})
    (group,) = analyse(swish()).groups
    assert {(m.value, m.axis) for m in group.members} >= {("w1", 0), ("s", 0), ("w2", 1)}
    exec(compile(oracle, "operator-rule.md", "exec"), {})


def test_a_device_profile():
    """A relative's file, renamed, without the error that was determined for the relative, is a valid profile."""
    document = json.loads((ROOT / "hwprofiles" / "orin-nano-8.json").read_text(encoding="utf-8"))
    mine = {k: v for k, v in document.items() if k not in ("error", "fitted", "aliases")} | {"name": "my-board"}
    validate(mine, "my-board.json")
    with pytest.raises(ProfileError, match="my-board"):
        validate(mine | {"clock": 1}, "my-board.json")
    keys = re.findall(r"^\| (`.+`) \|", (ROOT / "docs" / "guides" / "device-profile.md").read_text(), re.MULTILINE)
    assert {key for cell in keys for key in re.findall("`(.+?)`", cell)} <= set(document)
