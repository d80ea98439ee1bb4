from __future__ import annotations

import importlib.util

import pytest

from edgeprune.backends.runtimes import open_runtime
from edgeprune.errors import UsageError


def test_onnxruntime_is_opened_by_name() -> None:
    runtime = open_runtime("onnxruntime", 2)
    assert (runtime.name, runtime.threads) == ("onnxruntime", 2)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
def test_openvino_is_opened_by_name() -> None:
    assert open_runtime("openvino").name == "openvino"
    with pytest.raises(UsageError, match="at least 1"):
        open_runtime("openvino", 0)
