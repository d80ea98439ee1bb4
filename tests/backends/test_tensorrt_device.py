from __future__ import annotations

import time

import pytest

from edgeprune.backends.tensorrt_device import TensorRtDevice
from tests.backends import fake_tensorrt
from tests.backends.test_tensorrt import FakeCuda, backend
from tests.passes.graphs import RESIDUAL, build


class SlowCuda(FakeCuda):
    """A run takes a millisecond and no processor time."""

    def wait(self, stream: int) -> None:
        super().wait(stream)
        time.sleep(1e-3)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.0.0"])
def test_models_are_built_and_timed_in_turns(version: str):
    cuda = SlowCuda()
    device = TensorRtDevice(backend(fake_tensorrt.make(version), cuda))
    told: list[str] = []
    results = device.measure(
        {"dense": build(RESIDUAL), "pruned": build(RESIDUAL)}, seconds=0.05, progress=lambda what, s: told.append(what)
    )
    assert list(results) == ["dense", "pruned"]
    assert told == ["building dense", "building pruned"]
    for result in results.values():
        assert result.latency.runs > 0
        assert result.versions == {"tensorrt": version}
        assert result.engine == b"engine"
        assert result.clocks.startswith("not locked")
    assert cuda.held == 0
