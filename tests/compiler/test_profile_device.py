"""The variants that are measured for a profile."""

import numpy as np

from edgeprune.compiler import profile_device
from edgeprune.dependency import analyse
from edgeprune.devices import load_profile
from edgeprune.latency import gpu_network
from tests.latency.attentions import attention


def test_random_widths_are_those_that_a_search_may_choose() -> None:
    model = attention(heads=4, query_key=64, value=64)
    gpu = gpu_network(model, analyse(model), load_profile("orin").device(), ("fp16",), step=8, error=0.1)
    (groups,) = gpu.tied
    found = {tuple(profile_device._random_widths(gpu, np.random.default_rng(seed))[list(groups)]) for seed in range(8)}
    assert all(query_key == value and query_key % 8 == 0 for query_key, value in found)
    assert len(found) > 1
