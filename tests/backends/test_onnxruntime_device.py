from __future__ import annotations

import sys

import pytest

from edgeprune.backends.onnxruntime_device import OnnxRuntimeDevice
from edgeprune.errors import BackendError
from edgeprune.hosts.host import LocalHost
from edgeprune.hosts.ssh import SshHost
from tests.backends.loopback import Loopback
from tests.passes.graphs import RESIDUAL, TRANSFORMER, build


def test_a_real_run_over_ssh(device: Loopback):
    host = SshHost(device.url, config=device.config)
    runtime = OnnxRuntimeDevice(host, threads=1, python=sys.executable)
    results = runtime.measure({"dense": build(RESIDUAL), "other": build(TRANSFORMER)}, seconds=0.1)
    for result in results.values():
        assert result.latency.median_ms > 0
        assert len(result.latency.blocks_ms) >= 6
        assert set(result.ran_on) == {"CPUExecutionProvider"}
        assert result.versions["onnxruntime"]
        assert result.device
    assert len(results["dense"].latency.blocks_ms) == len(results["other"].latency.blocks_ms)
    assert not list((device.folder / "tmp").glob("edgeprune-*"))


def test_a_provider_that_is_not_there_is_refused():
    runtime = OnnxRuntimeDevice(LocalHost(), provider="TensorrtExecutionProvider", python=sys.executable)
    with pytest.raises(BackendError, match="no TensorrtExecutionProvider, only"):
        runtime.measure({"m": build(TRANSFORMER)}, seconds=0.1)


def test_a_provider_that_ran_nothing_is_no_success():
    runtime = OnnxRuntimeDevice(LocalHost(), provider="CUDAExecutionProvider")
    fallen_back = {"ran_on": {"m": {"CPUExecutionProvider": 12}}, "versions": {}, "blocks_ms": {"m": [[1.0]]}}
    with pytest.raises(BackendError, match="ran no node of m: 12 nodes on CPUExecutionProvider"):
        runtime._device_result("m", fallen_back, "a device")


def test_a_model_with_an_open_size_names_the_input():
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, N] tokens) => (float[1, N] y) { y = Relu(tokens) }
    """
    runtime = OnnxRuntimeDevice(LocalHost(), python=sys.executable)
    with pytest.raises(BackendError, match="input tokens has an open size"):
        runtime.measure({"m": build(text)}, seconds=0.1)
    assert runtime.measure({"m": build(text)}, seconds=0.1, shapes={"tokens": (1, 4)})["m"].latency.runs >= 6


def test_a_machine_without_python_says_so():
    with pytest.raises(BackendError, match=r"this machine: .*not found"):
        OnnxRuntimeDevice(LocalHost(), python="no-such-python").measure({"m": build(TRANSFORMER)}, seconds=0.1)
