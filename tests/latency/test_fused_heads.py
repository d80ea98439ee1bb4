"""Cuts of attention that TensorRT still computes in one kernel."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.dependency import Group, analyse
from edgeprune.devices import load_profile
from edgeprune.latency import gpu_network
from tests.latency.attentions import attention

ORIN = load_profile("orin").device()


def tied(model: ir.Model, step: int = 8) -> list[dict[str, list[int]]]:
    """For each set of tied groups: kind and dense size -> levels."""
    analysis = analyse(model)
    gpu = gpu_network(model, analysis, ORIN, ("fp16",), step=step, error=0.1)

    def named(group: Group) -> str:
        return f"{group.kind} {group.size}"

    return [
        {f"{named(analysis.groups[g])} #{i}": gpu.levels[g].tolist() for i, g in enumerate(groups)}
        for groups in gpu.tied
    ]


def test_queries_and_values_are_cut_together_to_multiples_of_eight() -> None:
    (one,) = tied(attention(heads=4, query_key=64, value=64))
    assert one == {"dim 64 #0": [16, 24, 32, 40, 48, 56, 64], "dim 64 #1": [16, 24, 32, 40, 48, 56, 64]}


def test_a_coarser_step_of_channels_is_kept() -> None:
    (one,) = tied(attention(heads=2, query_key=64, value=64), step=16)
    assert list(one.values()) == [[16, 32, 48, 64]] * 2


def test_heads_are_removed_one_by_one() -> None:
    model = attention(heads=4, query_key=64, value=64)
    analysis = analyse(model)
    gpu = gpu_network(model, analysis, ORIN, ("fp16",), step=8, error=0.1)
    levels = {g.kind: v.tolist() for g, v in zip(analysis.groups, gpu.levels, strict=True)}
    assert levels["head"] == [1, 2, 3, 4]


@pytest.mark.parametrize(("query_key", "value"), [(32, 64), (12, 12), (20, 20)])
def test_what_no_kernel_fuses_is_cut_freely(query_key: int, value: int) -> None:
    assert tied(attention(heads=4, query_key=query_key, value=value)) == []


def test_the_smallest_heads_stay_whole() -> None:
    (one,) = tied(attention(heads=4, query_key=16, value=16))
    assert list(one.values()) == [[16], [16]]


def test_repeated_keys_and_values_of_grouped_queries_stay_fused() -> None:
    (one,) = tied(attention(heads=4, query_key=32, value=32, shared=2))
    assert list(one.values()) == [[16, 24, 32]] * 2


def test_attentions_that_share_their_keys_are_tied_to_each_other() -> None:
    (one,) = tied(attention(heads=4, query_key=32, value=32, readers=2))
    assert len(one) == 3
    assert all(levels == [16, 24, 32] for levels in one.values())


def test_a_device_without_the_kernel_ties_nothing() -> None:
    model = attention(heads=4, query_key=64, value=64)
    old = replace(ORIN, fused_attention=False)
    gpu = gpu_network(model, analyse(model), old, ("fp16",), step=8, error=0.1)
    assert gpu.tied == ()
    assert np.array_equal([v[-1] for v in gpu.levels], gpu.latency.sizes)
