"""Opening a model: sizes that the value of an input decides."""

from pathlib import Path

import numpy as np
import onnx

from edgeprune.dependency.opened_model import open_model
from edgeprune.graph import count_macs
from edgeprune.graph.edit import static_shape
from edgeprune.support import Progress

SCALED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 3, h, w] x, float[1] ratio) => (float[n, 8, p, q] y) <float[2] ones = {1.0, 1.0}> {
    scales = Concat<axis = 0>(ones, ratio, ratio)
    small = Resize<mode = "linear">(x, , scales)
    y = Conv<pads = [1, 1, 1, 1]>(small, weight)
}"""


def test_the_value_of_an_input_decides_sizes(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(SCALED)
    weight = np.ones((8, 3, 3, 3), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    onnx.save(model, tmp_path / "m.onnx")
    opened = open_model(tmp_path / "m.onnx", {"x": (1, 3, 16, 24)}, Progress())
    conv = opened.fixed.graph[-1].outputs[0]
    assert static_shape(conv) is None
    sized = opened.at_values({"x": np.zeros((1, 3, 16, 24), np.float32), "ratio": np.float32([0.5])})
    assert static_shape(sized.fixed.graph[-1].outputs[0]) == (1, 8, 8, 12)
    assert sum(count_macs(sized.sized(opened.dense)).values()) == 8 * 12 * 8 * 27
    assert "depend on the data" in sized.size_note
    assert [str(v.name) for v in sized.fixed.graph.inputs] == ["x", "ratio"]
    assert opened.at_values({}) is opened


MASKED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 8, h, w] x, int64[4] sizes) => (float[a, b, c, d] y) {
    r = Relu(x)
    y = Reshape(r, sizes)
}"""


def test_values_that_do_not_fit_the_chosen_sizes_decide_nothing(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(MASKED), tmp_path / "m.onnx")
    opened = open_model(tmp_path / "m.onnx", {"x": (1, 8, 4, 4)}, Progress())
    fitting = opened.at_values({"sizes": np.array([1, 4, 8, 4])})
    assert static_shape(fitting.fixed.graph[-1].outputs[0]) == (1, 4, 8, 4)
    assert opened.at_values({"sizes": np.array([1, 4, 8, 8])}) is opened
