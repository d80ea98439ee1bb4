from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.graph import model_io as graph
from edgeprune.graph.edit import remove_dead
from edgeprune.passes.x86.ungroup import ungroup
from edgeprune.testing.oracle import feeds_for, parse


def ungrouped(groups: int, inputs: int, outputs: int, *, vnni: bool = True) -> tuple[ir.Model, ir.Model]:
    model = parse(
        f"""g (float[1, {groups * inputs}, 6, 6] x) => (float[1, {groups * outputs}, 3, 3] y) {{
            y = Conv<pads=[1, 1, 1, 1], strides=[2, 2], group={groups}>(x, w, b) }}""",
        w=(groups * outputs, inputs, 3, 3),
        b=(groups * outputs,),
    )
    copy = graph.clone(model)
    ungroup(copy.graph, [str(n.name) for n in copy.graph], vnni=vnni)
    remove_dead(copy.graph)
    return model, copy


def groups_of(model: ir.Model) -> int:
    return model.graph[0].attributes.get_int("group", 1)


@pytest.mark.parametrize("outputs", [8, 16])
def test_small_groups_become_one_convolution_that_computes_the_same(outputs: int) -> None:
    model, changed = ungrouped(3, 8, outputs)
    assert (groups_of(model), groups_of(changed)) == (3, 1)
    feeds = feeds_for(model, 0)
    (want,), (got,) = (OnnxRuntime().load(m).run(feeds) for m in (model, changed))
    # Sums of the same terms in another order.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs"),
    [(4, 32, 32), (32, 8, 8), (16, 1, 1), (3, 6, 6), (3, 8, 4)],
    ids=["too many zeros", "too many groups", "depthwise", "inputs not by four", "too few outputs"],
)
def test_convolutions_that_gain_nothing_stay(groups: int, inputs: int, outputs: int) -> None:
    assert groups_of(ungrouped(groups, inputs, outputs)[1]) == groups


def test_without_vnni_only_the_smallest() -> None:
    assert groups_of(ungrouped(8, 8, 8)[1]) == 1
    assert groups_of(ungrouped(8, 8, 8, vnni=False)[1]) == 8
    assert groups_of(ungrouped(3, 8, 8, vnni=False)[1]) == 1


def test_only_named_convolutions() -> None:
    model, _ = ungrouped(3, 8, 8)
    ungroup(model.graph, [])
    assert groups_of(model) == 3
