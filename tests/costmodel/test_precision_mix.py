"""The fastest mix of INT8 and 16 bits is the best of all mixes."""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.costmodel.cost import latencies_us
from edgeprune.costmodel.precision_mix import fastest_mix, reformats_us, successive_readers
from edgeprune.devices.operating_point import Precision
from edgeprune.devices.targets import load_profile
from tests.costmodel.test_cost import conv

ORIN = load_profile("orin").device()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([16, 64, 512]), st.integers(0, 3), st.booleans()), min_size=1, max_size=6))
def test_no_other_mix_is_faster(layers: list[tuple[int, int, bool]]) -> None:
    kernels, shapes = [], {"x0": (1, 16, 40, 40)}
    for i, (channels, read, _) in enumerate(layers):
        source = f"x{max(0, i - read)}"
        kernels.append(
            replace(
                conv(rows=1600, cin=channels, cout=channels), nodes=(f"n{i}",), reads=(source,), writes=(f"x{i + 1}",)
            )
        )
        shapes[f"x{i + 1}"] = (1, channels, 40, 40)
    may = [f"n{i}" for i, (_, _, eligible) in enumerate(layers) if eligible]

    def total_us(chosen: list[Precision]) -> float:
        return float(latencies_us(kernels, chosen, ORIN, mixed=False).sum()) + reformats_us(
            kernels, chosen, ORIN, shapes
        )

    found = fastest_mix(kernels, may, ORIN, shapes)
    assert all(k.nodes[0] in may for k, p in zip(kernels, found, strict=True) if p == "int8")
    sides: list[tuple[Precision, ...]] = [("fp16", "int8") if k.nodes[0] in may else ("fp16",) for k in kernels]
    best = min(total_us(list(chosen)) for chosen in itertools.product(*sides))
    assert total_us(found) <= best + 0.02 * len(kernels)


def test_only_computed_tensors_with_several_readers_are_reformatted() -> None:
    first = replace(conv(), reads=("image",), writes=("a",))
    second, third = (replace(conv(), reads=("a", "image"), writes=(name,)) for name in ("b", "c"))
    assert successive_readers([first, second, third]) == [(1, 2, "a")]


def test_a_device_without_int8_stays_in_16_bits() -> None:
    nano = load_profile("nano").device()
    assert fastest_mix([conv()], ["c"], nano, {}) == ["fp16"]
