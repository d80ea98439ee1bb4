"""The files for OpenVINO: what the script computes is what the model computes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune import graph
from edgeprune.build.openvino_files import write_openvino
from edgeprune.passes.openvino import int8_eligible, lower_openvino
from tests.passes.graphs import RESIDUAL, build, feeds_for, observed


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
@pytest.mark.parametrize("open_batch", [False, True])
def test_the_script_runs_the_xml_which_computes_what_the_onnx_file_does(tmp_path: Path, open_batch: bool) -> None:
    from edgeprune.backends import OpenVino

    model = build(RESIDUAL)
    feeds = feeds_for(model)
    int8 = [name for name, verdict in int8_eligible(model).items() if verdict]
    lowered = lower_openvino(model, int8, observed(model), float_precision="fp32")
    if open_batch:
        lowered.graph.inputs[0].shape = ir.Shape(["n", 3, 16, 16])
        lowered.graph.outputs[0].shape = ir.Shape(["n", 32, 8, 8])
    graph.save(lowered, tmp_path / "model.onnx")
    (note,) = write_openvino(tmp_path, 1, "fp32", {"image": (1, 3, 16, 16)} if open_batch else {})
    assert "run_openvino.py" in note
    np.savez(tmp_path / "in.npz", **feeds)
    command = [sys.executable, "run_openvino.py", "in.npz", "out.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "median of 50 runs" in done.stdout
    (wanted,) = OpenVino().load(tmp_path / "model.onnx").run(feeds)
    (own,) = OpenVino().load(tmp_path / "model.xml").run(feeds)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["y"], wanted)
    np.testing.assert_array_equal(own, wanted)
    # INT8 weights stay bytes: the weights are far smaller than in float32.
    floats = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    assert (tmp_path / "model.bin").stat().st_size < 0.5 * floats
    assert onnx.load(tmp_path / "model.onnx").graph.node
