from __future__ import annotations

from edgeprune.graph import Refused
from edgeprune.passes.placement import eligible_nodes
from tests.passes.graphs import RESIDUAL, build


def test_nodes_without_a_form_keep_their_reason() -> None:
    found = eligible_nodes(build(RESIDUAL), lambda node: node.op_type == "Conv" or Refused("no form"))
    assert found["c1"] is True
    assert found["sum"] == Refused("no form")


def test_an_old_opset_refuses_every_node_with_one_reason() -> None:
    model = build(RESIDUAL)
    model.graph.opset_imports[""] = 9
    assert {type(reason) for reason in eligible_nodes(model, lambda node: True).values()} == {Refused}
