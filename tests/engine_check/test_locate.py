"""Bisection over a graph whose wrong node is known; nothing is built."""

from __future__ import annotations

from collections.abc import Sequence

import onnx.parser
import onnx_ir as ir
import pytest

from edgeprune.engine_check.locate import AT_ONCE, MOST_ENGINES, Seen, locate


def chain(length: int) -> ir.Model:
    """A chain with a second branch from its middle that joins again at the end, and a pair of Q and DQ on the way."""
    lines = ["v0 = Relu(x)"]
    lines += [f"v{k} = Relu(v{k - 1})" for k in range(1, length)]
    lines += [f"side = Neg(v{length // 2})", f"y = Add(v{length - 1}, side)"]
    text = f"<ir_version: 9, opset_import: ['': 19]> g (float[2,4] x) => (float[2,4] y) {{ {' '.join(lines)} }}"
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text.replace("'", '"'))))
    for node in model.graph:
        node.name = f"node_{node.outputs[0].name}"
    return model


class Engines:
    """Engines that compute everything behind one node wrong; with ``fused``, only if the value is no output."""

    def __init__(self, model: ir.Model, wrong: str, *, fused: bool = False):
        self._model, self._wrong, self._fused = model, wrong, fused
        self.built = 0

    def __call__(self, inner: Sequence[str]) -> Seen:
        self.built += 1
        assert len(inner) <= AT_ONCE
        bad: set[str] = set()
        if not (self._fused and self._wrong in inner):
            for node in self._model.graph:
                if node.outputs[0].name == self._wrong or any(v is not None and v.name in bad for v in node.inputs):
                    bad.add(str(node.outputs[0].name))
        return Seen(bad & set(inner), bad & {"y"})


@pytest.mark.parametrize("wrong", ["v0", "v1", "v31", "v32", "v33", "v62", "side"])
def test_the_first_wrong_node_is_found(wrong: str):
    model = chain(64)
    engines = Engines(model, wrong)
    said = locate(model, "y", engines)
    assert (
        said == f"wrong from node 'node_{wrong}' ({'Neg' if wrong == 'side' else 'Relu'}) on, whose operands are right"
    )
    assert engines.built <= 4


def test_the_last_node_may_be_the_wrong_one():
    model = chain(5)
    assert "'node_y' (Add)" in locate(model, "y", Engines(model, "y"))


def test_a_fault_of_fusion_names_the_value_that_must_not_be_fused_away():
    """With that value as an output the engine is right; without, everything behind it is wrong."""
    model = chain(6)
    said = locate(model, "y", Engines(model, "v3", fused=True))
    assert said.startswith("it is right if the result of node 'node_v3' (Relu) is an output too: TensorRT fuses")


def test_a_fault_that_is_hidden_by_chance_is_still_placed():
    """Of 64 values only 7 are outputs at a time, and none of the first 7 is the one."""
    model = chain(64)
    said = locate(model, "y", Engines(model, "v20", fused=True))
    assert "node_v2" in said


def test_the_number_of_engines_is_bounded():
    model = chain(64)
    asked: list[int] = []

    def never_right(inner: Sequence[str]) -> Seen:
        asked.append(len(inner))
        return Seen(inner[-1:], {"y"})

    locate(model, "y", never_right)
    assert len(asked) <= MOST_ENGINES
