"""Kinds of kernels left in float one at a time: what is measured, kept, resumed and used by the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.backends.results import DeviceResult
from edgeprune.build import placement_trials as module
from edgeprune.build.placement_times import PlacementTimes, tuned
from edgeprune.build.placement_trials import tune_placement
from edgeprune.dependency.solve import analyse
from edgeprune.devices.targets import load_profile
from edgeprune.latency.kernel_network import GpuNetwork, gpu_network
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.search.problem import Problem
from edgeprune.search.solver import fastest_unpruned
from edgeprune.support import Progress
from tests.models import single
from tests.reports import measurement

NET = """
g (float[1,32,32,32] x) => (float[1,64,32,32] y) {
  a = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(a)
  b = Conv<pads=[1,1,1,1]>(r, w2) s = Relu(b)
  c = Conv<pads=[1,1,1,1]>(s, w3) t = Relu(c)
  y = Conv<pads=[1,1,1,1]>(t, w4)
}
"""


def network() -> GpuNetwork:
    """Four convolutions of three kinds: the second and the third do the same work."""
    same = (64, 64, 3, 3)
    model = canonicalize(single(NET, w1=(64, 32, 3, 3), w2=same, w3=same, w4=(64, 64, 3, 3)), verify=False)
    device = load_profile("orin").device()
    return gpu_network(model, analyse(model), device, ("fp16", "int8"), step=32, error=0.05)


class Builder:
    """Builds nothing but the formats that it is asked for."""

    float_format = "fp16"
    few_samples = None

    def for_timing(self, data: object) -> Builder:
        return self

    def build(self, widths: object, formats: Sequence[str]) -> Any:
        return tuple(formats)


class Board:
    """A board on which some blocks are so many times as slow in INT8 as in float, and the others as predicted."""

    def __init__(self, kernels: GpuNetwork, slower: Mapping[int, float]):
        latency = kernels.latency
        self.latency = tuned(latency, slower)
        self.seen: list[list[str]] = []

    def facts(self) -> dict[str, str]:
        return {"machine": "Orin", "TensorRT": "10.3.0"}

    def measure(self, models: Mapping[str, Any], **_: object) -> dict[str, DeviceResult]:
        self.seen.append(list(models))
        return {name: self._result(formats) for name, formats in models.items()}

    def _result(self, formats: tuple[str, ...]) -> DeviceResult:
        us = 1.3 * self.latency.total_us(self.latency.sizes, formats)  # the whole board is slower than predicted
        return DeviceResult(measurement(us / 1e3), "Orin", {}, "locked")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path))


def tune(kernels: GpuNetwork, board: Board, minutes: float = 5.0) -> module.Placement:
    device, builder = board, Builder()
    return tune_placement(
        kernels,
        kernels.latency,
        builder,  # type: ignore[arg-type]
        device,  # type: ignore[arg-type]
        target="orin",
        model="net.onnx",
        shapes={},
        minutes=minutes,
        progress=Progress(),
    )


def test_a_kernel_that_is_slower_in_int8_is_left_float_by_the_search():
    kernels = network()
    quantized = [b for b in range(4) if "int8" in kernels.latency.formats(b)]
    assert quantized == [0, 1, 2, 3]
    board = Board(kernels, {1: 1.5, 2: 1.5})
    found = tune(kernels, board)
    assert [found.ratios[b] for b in (1, 2)] == pytest.approx([1.5, 1.5], rel=0.02)
    assert found.ratios[0] < 1
    assert "4 of 4 kernels is measured" in found.notes[0]
    assert "2 are slower in INT8" in found.notes[0]
    free = tuple({"fp16": 0.0, "int8": 0.0} for _ in range(4))
    problem = Problem(kernels.latency, kernels.levels, tuple(np.zeros(len(v)) for v in kernels.levels), free)
    assert fastest_unpruned(problem).formats == ("int8",) * 4
    after = fastest_unpruned(replace(problem, latency=tuned(kernels.latency, found.ratios)))
    assert after.formats == ("int8", "fp16", "fp16", "int8")


def test_what_was_measured_is_kept_for_other_models_and_an_interrupted_run_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "TOGETHER", 1)
    kernels = network()
    board = Board(kernels, {})
    first = tune(kernels, board, minutes=1e-9)
    assert len(board.seen) == 1  # one measurement is always made, so that every run brings something
    assert "are not measured yet: compile again" in first.notes[0]
    again = tune(kernels, board)
    assert [len(seen) for seen in board.seen] == [3, 3, 2]  # each run also times the network in float, once
    assert len(board.seen) == len(PlacementTimes(target="orin", facts=board.facts()).known().ratios)
    assert "not measured" not in again.notes[0]
    before = len(board.seen)
    assert tune(kernels, board).ratios == again.ratios
    assert len(board.seen) == before
    other = Board(kernels, {})
    other.facts = lambda: {"machine": "Orin", "TensorRT": "10.16.0"}  # type: ignore[method-assign]
    tune(kernels, other)
    assert other.seen  # another TensorRT fuses otherwise


def test_noise_counts_less_than_the_prediction(monkeypatch: pytest.MonkeyPatch):
    """A kernel of 1% of the time, measured to 10%: its ratio stays what was predicted."""
    kernels = network()
    board = Board(kernels, {})

    def noisy(formats: tuple[str, ...]) -> DeviceResult:
        us = board.latency.total_us(board.latency.sizes, formats)
        return DeviceResult(measurement(us / 1e3, noise=3.0, seed=len(board.seen)), "Orin", {}, "locked")

    monkeypatch.setattr(board, "_result", noisy)
    found = tune(kernels, board)
    latency, sizes = kernels.latency, kernels.latency.sizes
    for block, ratio in found.ratios.items():
        predicted = latency.block_us(block, "int8", sizes) / latency.block_us(block, "fp16", sizes)
        assert ratio == pytest.approx(predicted, rel=0.25)


def test_times_of_other_widths_and_2_4_follow():
    kernels = network()
    changed = tuned(kernels.latency, {1: 0.5})
    sizes, half = kernels.latency.sizes, kernels.latency.sizes // 2
    assert changed.block_us(1, "int8", sizes) == pytest.approx(0.5 * kernels.latency.block_us(1, "fp16", sizes))
    factor = changed.block_us(1, "int8", half) / kernels.latency.block_us(1, "int8", half)
    assert factor == pytest.approx(changed.block_us(1, "int8", sizes) / kernels.latency.block_us(1, "int8", sizes))
    for block in (0, 2, 3):
        assert changed.block_us(block, "int8", half) == pytest.approx(kernels.latency.block_us(block, "int8", half))
    assert changed.total_us(sizes, ("fp16",) * 4) == pytest.approx(kernels.latency.total_us(sizes, ("fp16",) * 4))
