import re

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import UsageError
from edgeprune.graph import batch_axes, infer_shapes, parse_shape_option
from edgeprune.passes.verify import settle_sizes
from tests.passes.models import parse

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
CONVOLUTION = """
g (float[n, 3, h, w] x) => (float[n, 4, oh, ow] y) { y = Conv<strides = [4, 4]>(x, weight) }
"""
STATES = """
g (float[b, 3, h, w] x, float[b, c, sh, sw] state) => (float[b, 4, oh, ow] y) {
  f = Conv<strides = [4, 4]>(x, weight)
  s = Shape(f)
  e = Expand(state, s)
  y = Add(f, e)
}
"""
TWO = """
g (float[n, 3, h, w] x, float[m, k] z) => (float[n, 4, oh, ow] y, float[m, k] r) {
  y = Conv(x, weight)
  r = Relu(z)
}
"""


def model(text: str) -> ir.Model:
    weight = ir.tensor(np.ones((4, 3, 4, 4), np.float32), name="weight")
    return ir.from_onnx_text(f"{HEADER}\n{text}", initializers=[weight])


def test_given_sizes_win_over_the_data_and_the_data_over_proposals() -> None:
    given = settle_sizes(model(CONVOLUTION), {"x": (2, 3, 20, 24)}, lambda: {"x": (1, 3, 8, 8)})
    assert (given.shapes, given.sentences()) == ({"x": (2, 3, 20, 24)}, ())
    seen = settle_sizes(model(CONVOLUTION), {}, lambda: {"x": (1, 3, 8, 12)})
    assert seen.shapes == {"x": (1, 3, 8, 12)}
    assert seen.sentences() == ("input x: 1x3x8x12, as in the calibration data: --shape to change",)
    proposed = settle_sizes(model(CONVOLUTION))
    assert proposed.sentences() == ("input x: 1x3x320x320, proposed from the graph: --shape to change",)


def test_an_open_batch_is_one_without_a_word() -> None:
    text = CONVOLUTION.replace("3, h, w", "3, 8, 8").replace("4, oh, ow", "4, 2, 2")
    found = settle_sizes(model(text), {}, lambda: {"x": (1, 3, 8, 8)})
    assert (found.shapes, found.sentences()) == ({"x": (1, 3, 8, 8)}, ())


@pytest.mark.parametrize("run", [True, False])
def test_the_batch_of_a_state_behind_its_layers_is_one(run: bool) -> None:
    """A voice detector whose export names no size: the batch of the state is no length to propose."""
    text = """
    g (float[?,?] x, float[2,?,128] state) => (float[a,b] y, float[2,c,128] next) {
      h = Unsqueeze(state, zero)
      s = Squeeze(h, zero)
      next = Tanh(s)
      m = ReduceMean<axes = [0, 2], keepdims = 0>(next)
      zero_axis = Unsqueeze(m, one)
      y = Add(x, zero_axis)
    }
    """
    found = settle_sizes(parse(text, zero=np.array([0]), one=np.array([1])), run=run)
    assert found.shapes["state"] == (2, 1, 128)
    assert found.origins["state"] == "fixed"
    assert found.sentences() == ("input x: 1x64, proposed from the graph: --shape to change",)


def test_the_steps_before_the_batch_are_proposed() -> None:
    text = "g (float[steps, batch, 4] x) => (float[a, b, 4] y) { y = Relu(x) }"
    found = settle_sizes(parse(text))
    assert found.sentences() == ("input x: 64x1x4, proposed from the graph: --shape to change",)
    seen = settle_sizes(parse(text), {}, lambda: {"x": (5, 1, 4)})
    assert seen.sentences() == ("input x: 5x1x4, as in the calibration data: --shape to change",)


def test_all_inputs_are_named_at_once() -> None:
    (sentence,) = settle_sizes(model(TWO)).sentences()
    assert sentence.startswith("inputs x: 1x3x")
    assert ", z: 1x" in sentence


def test_states_of_any_size_are_proposed_beside_the_image() -> None:
    found = settle_sizes(model(STATES)).shapes
    assert found == {"x": (1, 3, 64, 64), "state": (1, 1, 1, 1)}


def test_a_symbol_has_one_size_in_all_inputs() -> None:
    text = CONVOLUTION.replace("] x)", "] x, float[n, h, w] mask)").replace("y = Conv", "q = Relu(mask) y = Conv")
    found = settle_sizes(model(text), {"x": (1, 3, 8, 12)})
    assert found.shapes["mask"] == (1, 8, 12)
    assert found.sentences() == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": (1,)}, "--shape names 'y', which is not an input; the inputs are x, z"),
        ({"x": (1, 3, 8)}, "--shape x=1x3x8 does not fit the input, which is ?x3x?x?"),
        ({"x": (1, 4, 8, 8)}, "--shape x=1x4x8x8 does not fit the input, which is ?x3x?x?"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(given: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        settle_sizes(model(TWO), given)
    assert str(caught.value) == message


def test_contradicting_symbols_are_refused() -> None:
    text = TWO.replace("float[m, k] z", "float[n, k] z")
    with pytest.raises(UsageError, match="--shape z=3x5 contradicts input 'x': 'n' is 2 there"):
        settle_sizes(model(text), {"x": (2, 3, 8, 8), "z": (3, 5)})


def test_a_model_that_runs_at_no_size_names_every_open_input() -> None:
    text = """
    g (float[a, 5, w] x, float[b, 7, v] z) => (float[p, q, r] y) { y = Reshape(x, never) z2 = Relu(z) }
    """
    never = ir.tensor(np.array([3, 7, 11]), name="never")
    broken = ir.from_onnx_text(f"{HEADER}\n{text}", initializers=[never])
    with pytest.raises(
        UsageError, match=r"no sizes could be proposed for inputs x \(\?x5x\?\), z \(\?x7x\?\): give --shape"
    ):
        settle_sizes(broken)


DIM = st.sampled_from(["3", "8", "n", "h", "w", ""])
INPUTS = st.lists(st.lists(DIM, min_size=0, max_size=4), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(dims=INPUTS)
def test_what_a_sentence_offers_is_accepted_and_changes_nothing(dims: list[list[str]]) -> None:
    values = [
        ir.Value(name=f"in.{i}", shape=ir.Shape([int(d) if d.isdigit() else d or None for d in axes]), type=FLOAT)
        for i, axes in enumerate(dims)
    ]
    nodes = [ir.node("Relu", [v]) for v in values]
    for i, node in enumerate(nodes):
        node.outputs[0].name, node.outputs[0].type = f"out.{i}", FLOAT
    graph = ir.Graph(values, [n.outputs[0] for n in nodes], nodes=nodes, name="g", opset_imports={"": 17})
    net = ir.Model(graph, ir_version=8)
    found = settle_sizes(net)
    offered = [x for sentence in found.sentences() for x in re.findall(r"(\S+): ([\dx]+)", sentence)]
    again = settle_sizes(net, dict(parse_shape_option(f"{name}={sizes}") for name, sizes in offered))
    assert again.shapes == found.shapes
    assert again.sentences() == ()
    batches = batch_axes(net)
    open_inputs = {
        f"in.{i}"
        for i, axes in enumerate(dims)
        if any(not d.isdigit() for axis, d in enumerate(axes) if axis != batches[f"in.{i}"])
    }
    assert {name for name, _ in offered} == open_inputs


FLOAT = ir.TensorType(ir.DataType.FLOAT)


TOKENS = """
g (float[n, 3, h, w] x) => (float[a, b, c] y) {
  f = Conv<strides = [16, 16]>(x, patch)
  s = Shape<start = 0, end = 2>(f)
  all = Concat<axis = 0>(s, rest)
  r = Reshape(f, all)
  t = Transpose<perm = [0, 2, 1]>(r)
  y = Add(t, table)
}
"""


def tokens() -> ir.Model:
    weights = {"patch": np.ones((8, 3, 16, 16), np.float32), "table": np.ones((1, 49, 8), np.float32)}
    return infer_shapes(parse(TOKENS, rest=np.array([-1]), **weights))


def test_a_table_of_positions_decides_the_size_and_is_named() -> None:
    found = settle_sizes(tokens())
    assert found.shapes == {"x": (1, 3, 112, 112)}
    (said,) = found.sentences()
    assert re.search(
        r"input x: 1x3x112x112, proposed from the graph: --shape to change; node '.*' needs a length of 49$", said
    )


@pytest.mark.parametrize("run", [True, False])
def test_a_given_size_that_the_table_does_not_fit_is_refused(run: bool) -> None:
    assert settle_sizes(tokens(), {"x": (1, 3, 16, 784)}, run=run).shapes == {"x": (1, 3, 16, 784)}
    with pytest.raises(UsageError, match=r"gets a length of 64, not 49; x=1x3x112x112 fits"):
        settle_sizes(tokens(), {"x": (1, 3, 128, 128)}, run=run)


@pytest.mark.parametrize(
    ("dims", "output", "told", "found"),
    [
        ("3, 48, w", "4, oh, ow", {}, (48, 320)),  # a line of text
        ("3, h, w", "4, oh, ow", {}, (320, 320)),
        ("3, h, w", "4, oh, ow", {"imgsz": "[416, 640]"}, (416, 640)),
        ("3, 96, w", "4, oh, ow", {}, (96, 96)),
    ],
)
def test_sizes_that_such_networks_are_used_at(
    dims: str, output: str, told: dict[str, str], found: tuple[int, int]
) -> None:
    open_model = parse(
        f"g (float[n, {dims}] x) => (float[n, {output}] y) {{ y = Conv<strides = [4, 4]>(x, k) }}",
        k=np.ones((4, 3, 4, 4), np.float32),
    )
    open_model.metadata_props.update(told)
    assert settle_sizes(infer_shapes(open_model)).shapes["x"][2:] == found


def test_labels_are_given_to_images_of_224() -> None:
    text = "g (float[n, 3, h, w] x) => (float[n, 4, 1, 1] y) { f = Conv(x, k) y = GlobalAveragePool(f) }"
    pooled = infer_shapes(parse(text, k=np.ones((4, 3, 4, 4), np.float32)))
    assert settle_sizes(pooled).shapes["x"] == (1, 3, 224, 224)


def test_windows_decide_by_which_number_a_size_is_divided() -> None:
    text = """
    g (float[1, 3, h, w] x) => (float[a, b, c, d, e, f] y) {
      p = Conv<strides = [4, 4]>(x, k)
      s = Shape<start = 2>(p)
      n = Div(s, seven)
      rows, columns = Split<axis = 0, num_outputs = 2>(n)
      t = Concat<axis = 0>(four, rows, seven, columns, seven)
      r = Reshape(p, t)
      y = Relu(r)
    }
    """
    weights = {"k": np.ones((4, 3, 4, 4), np.float32), "seven": np.array([7]), "four": np.array([1, 4])}
    found = settle_sizes(infer_shapes(parse(text, opset=18, **weights)), run=False)
    assert found.shapes["x"] == (1, 3, 224, 224)


def test_a_size_is_found_although_a_body_needs_it() -> None:
    """A Loop whose body reads windows of seven columns; the graph before it says nothing."""
    text = """
    g (float[1, w] x) => (float[a, 7] y) {
      y = Loop(times, , start) <body = b (int64 i, bool go, float[p, 7] state) => (bool again, float[p, 7] next) {
        again = Identity(go)
        r = Reshape(x, to)
        m = ReduceMean<axes = [0], keepdims = 1>(r)
        next = Add(state, m)
      }>
    }
    """
    weights = {"times": np.array(2), "start": np.ones((1, 7), np.float32), "to": np.array([-1, 7])}
    assert settle_sizes(infer_shapes(parse(text, **weights))).shapes["x"][1] % 7 == 0


def test_the_image_size_that_an_exporter_wrote_is_used() -> None:
    exported = model(CONVOLUTION)
    exported.metadata_props.update({"task": "detect", "stride": "32", "names": "{}", "imgsz": "[320, 480]"})
    found = settle_sizes(exported)
    assert found.shapes["x"] == (1, 3, 320, 480)
    assert found.sentences() == ("input x: 1x3x320x480, as the metadata of the export says: --shape to change",)
    assert settle_sizes(exported, {"x": (1, 3, 32, 32)}).shapes["x"] == (1, 3, 32, 32)
    exported.metadata_props["imgsz"] = "[2, 2]"
    assert settle_sizes(exported).origins["x"] == "proposed", "the model does not run at this size"


def test_a_line_of_text_has_the_height_that_its_pooling_needs() -> None:
    """Heights from 33 to 80 are pooled to the one row that is joined to another; the strides divide 48."""
    text = """
    g (float[n, 3, h, w] x) => (float[a, b, c, d] y) {
      f = Conv<strides = [16, 8], pads = [0, 0, 15, 7]>(x, k)
      p = AveragePool<kernel_shape = [3, 2], strides = [3, 2]>(f)
      y = Concat<axis = 3>(p, edge)
    }
    """
    weights = {"k": np.ones((4, 3, 4, 4), np.float32), "edge": np.ones((1, 4, 1, 1), np.float32)}
    assert settle_sizes(infer_shapes(parse(text, **weights))).shapes["x"] == (1, 3, 48, 320)
