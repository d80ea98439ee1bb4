import numpy as np

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.graph.segments import cut_into_segments, levels_of, segment_bytes
from tests.small_models import branching as model
from tests.small_models import build


def test_levels_count_stops_on_the_longest_path() -> None:
    assert levels_of(model(), {"two", "side"}) == {"one": 0, "relu": 0, "two": 1, "side": 1, "sum": 1, "skip": 1}
    assert levels_of(model(), {"one", "two"})["skip"] == 2


def test_segments_read_and_give_what_crosses_the_boundary() -> None:
    first, second = cut_into_segments(model(), {"two"})
    assert first.outputs == ("a", "c", "r")
    assert second.inputs == ("c", "r")
    assert second.outputs == ("y",)
    assert cut_into_segments(model(), {"two"}, watched={"s"})[1].outputs == ("s", "y")


def test_values_inside_control_flow_count_as_read() -> None:
    text = """g (float[4] x, bool c) => (float[4] y) {
        [first] a = Relu(x)
        [stop] b = Neg(a)
        [choice] y = If (c) <then_branch = t () => (float[4] p) { p = Add(b, a) },
                             else_branch = e () => (float[4] q) { q = Sub(b, a) }>
    }"""
    loop = build(text)
    assert levels_of(loop, {"stop"})["choice"] == 1
    _, second = cut_into_segments(loop, {"stop"})
    assert second.inputs == ("a", "c")
    runner = OnnxRuntime(1).load(segment_bytes(loop, second, second.outputs))
    (y,) = runner.run({"a": np.ones(4, np.float32), "c": np.array(True)})
    np.testing.assert_array_equal(y, 0)
