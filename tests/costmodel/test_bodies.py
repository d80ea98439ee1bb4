"""Kernels of the bodies of Loop, Scan and If."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from edgeprune.costmodel.bodies import flatten_bodies
from edgeprune.costmodel.fusion import fuse
from edgeprune.costmodel.kernel import Kernel
from edgeprune.costmodel.kernels import kernels_from
from edgeprune.passes.canonicalize.pipeline import canonicalize


def model_of(body: str, *, inputs: str = "float[4,6] x", constants: str = "", opset: int = 17) -> ir.Model:
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g ({inputs}) => (float[?,?] y)
        <int64 five = {{5}}, bool true = {{1}}, int64 zero = {{0}} {constants}> {{ {body} }}"""
    )
    generator = np.random.default_rng(0)
    for name, shape in (("w", (6, 6)), ("wide", (6, 96)), ("narrow", (96, 6)), ("small", (6, 6))):
        array = generator.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return canonicalize(ir.from_proto(proto), verify=False)


def kernels(model: ir.Model) -> tuple[tuple[Kernel, ...], tuple[str, ...]]:
    fused = fuse(model)
    return kernels_from(fused), fused.notes


LOOP = """
    z = Loop(COUNT, true, x) <body = step (int64 i, bool more, float[4,6] state) => (bool again, float[4,6] next) {
        again = Identity(more)
        next = MatMul(state, w)
    }>
    y = MatMul(z, wide)
"""


def test_a_loop_of_constant_length_costs_its_body_as_often_as_it_runs() -> None:
    found, notes = kernels(model_of(LOOP.replace("COUNT", "five")))
    assert [(k.kind, k.repeats, k.macs) for k in found] == [("matmul", 5, 5 * 4 * 36), ("matmul", 1, 4 * 6 * 96)]
    assert notes == ()


def test_a_computed_trip_count_is_said() -> None:
    found, notes = kernels(model_of(LOOP.replace("COUNT", "n"), inputs="float[4,6] x, int64 n"))
    assert [k.repeats for k in found] == [1, 1]
    assert len(notes) == 1
    assert notes[0].startswith("the trip count of Loop 'Loop_0' is not constant")


@pytest.mark.parametrize("opset", [11, 17])
def test_values_that_a_body_captures_are_computed_values(opset: int) -> None:
    """A Loop whose own operands are constants, as tf.map_fn over the pictures of a batch."""
    text = """
        h = Relu(x)
        rows = Loop(FOUR, true) <body = step (int64 i, bool more) => (bool again, float[6] row) {
            again = Identity(more)
            one = Gather(h, i)
            row = Exp(one)
        }>
        y = MatMul(rows, w)
    """.replace("FOUR", "four")
    found, notes = kernels(model_of(text, constants=", int64 four = {4}", opset=opset))
    assert notes == ()
    assert [k.kind for k in found].count("matmul") == 1
    assert found[-1].macs == 4 * 6 * 6  # the stacked rows have a length
    assert any(k.repeats == 4 and k.kind == "pointwise" for k in found)


def test_a_scan_runs_its_body_for_each_slice() -> None:
    text = """
        last, all = Scan<num_scan_inputs = 1, body = step (float[6] s, float[6] row) => (float[6] t, float[6] o) {
            p = Add(s, row)
            t = Tanh(p)
            o = Identity(t)
        }>(start, x)
        y = MatMul(all, wide)
    """
    found, notes = kernels(model_of(text, inputs="float[4,6] x, float[6] start"))
    assert notes == ()
    assert {k.repeats for k in found if k.kind == "pointwise"} == {4}
    assert found[-1].macs == 4 * 6 * 96


@pytest.mark.parametrize("large", ["then_branch", "else_branch"])
def test_an_if_costs_its_larger_branch(large: str) -> None:
    other = {"then_branch": "else_branch", "else_branch": "then_branch"}[large]
    text = f"""
        sum = ReduceSum<keepdims=0>(x)
        flag = Cast<to=9>(sum)
        y = If(flag) <{large} = a () => (float[4,6] big) {{ h = MatMul(x, wide) big = MatMul(h, narrow) }},
                      {other} = b () => (float[4,6] few) {{ few = MatMul(x, small) }}>
    """
    found, notes = kernels(model_of(text))
    assert [k.macs for k in found if k.kind == "matmul"] == [4 * 6 * 96] * 2
    assert notes == (
        f"If 'If_2' is priced by its {large[:4]} branch, which has more weights: its condition is computed",
    )


def test_a_loop_in_a_loop_multiplies() -> None:
    text = """
        y = Loop(five, true, x) <body = step (int64 i, bool more, float[4,6] state) => (bool again, float[4,6] next) {
            again = Identity(more)
            next = Loop(two, more, state) <body = inner (int64 j, bool on, float[4,6] s) => (bool off, float[4,6] t) {
                off = Identity(on)
                t = MatMul(s, w)
            }>
        }>
    """
    found, _ = kernels(model_of(text, constants=", int64 two = {2}"))
    assert [(k.kind, k.repeats) for k in found] == [("matmul", 10)]


def test_a_model_without_bodies_is_itself() -> None:
    model = model_of("y = MatMul(x, w)")
    assert flatten_bodies(model).model is model
