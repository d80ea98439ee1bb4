from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from edgeprune.backends.openvino import OpenVinoRunner
from edgeprune.backends.openvino_trace import block_times, kernel_times, trace_openvino
from edgeprune.backends.results import LayerTime


def test_a_fused_kernel_counts_to_its_first_block_and_an_unnamed_one_to_the_block_before() -> None:
    kernels = [
        LayerTime("blk1_0", 9.5, nodes=("blk1_0", "blk2_5")),
        LayerTime("reorder", 19.5),
        LayerTime("blk2_6", 29.5, nodes=("blk2_6",)),
        LayerTime("blk2_7", 0.0, nodes=("blk2_7",)),  # computed when the model was compiled
    ]
    assert block_times(kernels, 117.0) == pytest.approx({1: 58.0, 2: 59.0})


class Counters:
    """Counters as OpenVINO has them: means over all runs so far, in whole microseconds."""

    def __init__(self, times_us: Callable[[int], float]):
        self.times_us, self.spent = times_us, list[float]()

    def run(self) -> None:
        self.spent.append(self.times_us(len(self.spent)))

    def kernels(self) -> list[LayerTime]:
        return [LayerTime("k", float(int(sum(self.spent) / len(self.spent)))), LayerTime("folded", 0.0)]


@pytest.mark.parametrize("disturbed", [(), (0,), (3,), (5, 9), (1, 2, 9)])
def test_a_run_that_lost_the_processor_does_not_spoil_a_kernel(disturbed: tuple[int, ...]) -> None:
    counters = Counters(lambda run: 4000.0 if run in disturbed else 40.0)
    counters.run()  # binding
    kernel, folded = kernel_times(counters, counters.run, 0.0)
    assert kernel.median_us == pytest.approx(40.0, abs=2.0)  # the counter's resolution
    assert folded.median_us == 0.0


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
def test_every_block_has_a_time_from_one_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    whole = OpenVinoRunner._compile

    def counted(runner: OpenVinoRunner, model: Any) -> Any:
        compiled.append(model)
        return whole(runner, model)

    monkeypatch.setattr(OpenVinoRunner, "_compile", counted)
    net = """
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, 32, 40, 40] x, float[32, 32, 3, 3] w, float[32, 32, 3, 3] v) => (float[1, 32, 40, 40] y)
    { c = Conv<pads = [1, 1, 1, 1]>(x, w)  r = Relu(c)  y = Conv<pads = [1, 1, 1, 1]>(r, v) }
    """
    model = ir.from_proto(onnx.parser.parse_model(net))
    for name, node in zip(("one", "relu", "two"), model.graph, strict=True):
        node.name = name
    sizes = {"x": (1, 32, 40, 40), "w": (32, 32, 3, 3), "v": (32, 32, 3, 3)}
    feeds = {name: np.ones(size, np.float32) for name, size in sizes.items()}
    found = trace_openvino(model, {"one": 0, "relu": 0, "two": 1}, feeds, 1, 0.1)
    assert set(found.block_us) == {0, 1}
    assert sum(found.block_us.values()) == pytest.approx(found.total_us)
    assert len(compiled) == 1
