from __future__ import annotations

import pytest

from edgeprune.devices import RUNTIMES, load_profile, target_names
from edgeprune.errors import UsageError


def test_a_cpu_has_two_runtimes_and_a_gpu_one() -> None:
    assert load_profile("cpu").runtimes == ("onnxruntime", "openvino")
    assert load_profile("orin").runtimes == ("tensorrt",)
    assert load_profile("cpu").runtime().name == "onnxruntime"
    assert load_profile("cpu").runtime("openvino").name == "openvino"


@pytest.mark.parametrize("target", target_names())
def test_every_runtime_of_a_target_is_known(target: str) -> None:
    profile = load_profile(target)
    assert set(profile.runtimes) <= set(RUNTIMES)
    assert {p for r in profile.runtimes for p in profile.runtime(r).precisions} >= set(profile.precisions)


def test_a_runtime_that_the_target_lacks_is_named() -> None:
    with pytest.raises(UsageError, match="target orin has no runtime 'openvino'; it has tensorrt"):
        load_profile("orin").runtime("openvino")
