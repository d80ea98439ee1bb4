"""The latency of a kernel: stairs, bounds, and the limits of a roofline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from edgeprune.costmodel.cost import Sparsity, kernel_cost, latencies_us, stack, with_batch
from edgeprune.costmodel.kernel import Kernel
from edgeprune.devices.operating_point import Device, Precision
from edgeprune.devices.targets import load_profile

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def conv(rows: int = 400, cin: int = 256, cout: int = 256, taps: int = 9, **others: object) -> Kernel:
    fields: dict[str, object] = {
        "anchor": "c",
        "nodes": ("c",),
        "kind": "conv",
        "input": "x",
        "output": "y",
        "groups": 1,
        "rows": rows,
        "cin": cin,
        "cout": cout,
        "taps": taps,
        "read_positions": float(rows),
        "write_positions": float(rows),
    }
    return Kernel(**{**fields, **others})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def orin() -> Device:
    return load_profile("orin").device()


kernels = st.builds(
    conv,
    rows=st.integers(1, 20_000),
    taps=st.sampled_from([1, 9, 25]),
    kind=st.sampled_from(["conv", "depthwise", "matmul", "pointwise", "reduce", "pool", "copy", "concat", "nms"]),
    groups=st.sampled_from([1, 4]),
    keys=st.integers(1, 2000),
    epilogue=st.sampled_from(["none", "simple", "complex"]),
    weighted=st.booleans(),
    side_elements=st.floats(0, 1e5),
)
steps = st.integers(1, 64)


def kernel_latency_us(
    kernel: Kernel, cin: ArrayLike, cout: ArrayLike, precision: Precision, sparsity: Sparsity, device: Device
) -> NDArray[np.float64]:
    """Latency of a kernel at other widths, in the broadcast shape of the widths."""
    widths = np.broadcast(cin, cout)
    several = [replace(kernel, cin=int(i), cout=int(o)) for i, o in widths]
    return latencies_us(several, [precision] * len(several), device, sparsity).reshape(widths.shape)


@settings(max_examples=200, deadline=None)
@given(kernels, steps, steps, steps, steps, st.sampled_from(PRECISIONS), st.sampled_from(["orin", "nano", "t4"]))
def test_latency_never_rises_as_aligned_widths_shrink(
    kernel: Kernel, cin: int, cout: int, less_in: int, less_out: int, precision: Precision, target: str
) -> None:
    profile = load_profile(target)
    device, step = profile.device(), profile.channel_step("int8" if "int8" in profile.precisions else "fp16")
    wide_in, wide_out = step * (cin + less_in), step * (cout + less_out)
    widths_in, widths_out = np.array([step * cin, step * cin, wide_in, wide_in]), np.array([step * cout, wide_out] * 2)
    narrow, wider_out, wider_in, wide = kernel_latency_us(kernel, widths_in, widths_out, precision, "dense", device)
    slack = 1e-9 * wide  # rounding of the sums, nothing else
    assert narrow <= wider_out + slack
    assert narrow <= wider_in + slack
    assert max(wider_in, wider_out) <= wide + slack


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 16), st.integers(1, 16), st.sampled_from(PRECISIONS))
def test_an_attention_of_fewer_heads_is_never_slower(tokens: int, heads: int, more: int, precision: Precision) -> None:
    device = load_profile("orin").device()
    few, many = (
        conv(kind="attention", rows=tokens, keys=tokens, groups=n, cin=64 * n, cout=64 * n, weighted=False, taps=1)
        for n in (heads, heads + more)
    )
    narrow, wide = latencies_us([few, many], [precision, precision], device)
    assert narrow <= wide * (1 + 1e-9)


def test_channels_between_two_steps_cost_as_much_as_the_upper_one(orin: Device) -> None:
    """TensorRT pads silently: 121 to 127 input channels are as slow as 128."""
    times = kernel_latency_us(conv(), np.arange(121, 129), 256, "fp16", "dense", orin)
    np.testing.assert_array_equal(times, times[-1])


def test_staircase_has_treads(orin: Device) -> None:
    """A whole range of output widths needs the same number of waves of tiles."""
    compute = [
        float(kernel_cost(stack([conv(rows=6400, cout=n)]), "fp16", "dense", orin).compute_us[0])
        for n in range(8, 513, 8)
    ]
    assert len({round(c, 6) for c in compute}) < len(compute) / 2


def test_lower_precision_is_never_slower(orin: Device) -> None:
    kernel = conv(rows=6400)
    fp32, fp16, int8 = (float(kernel_latency_us(kernel, 256, 256, p, "dense", orin)) for p in PRECISIONS)
    assert int8 <= fp16 <= fp32


def test_a_device_without_a_precision_takes_the_next_wider_one() -> None:
    nano = load_profile("nano").device()
    kernel = conv()
    assert kernel_latency_us(kernel, 64, 64, "int8", "dense", nano) == kernel_latency_us(
        kernel, 64, 64, "fp16", "dense", nano
    )


def test_a_large_convolution_approaches_but_never_beats_the_peak(orin: Device) -> None:
    kernel = conv(rows=2**16, cin=2048, cout=2048, taps=1)
    peak_us = kernel.macs / (orin.matrix_fma["fp16"] * orin.sms * orin.clock_mhz)
    time_us = float(kernel_latency_us(kernel, 2048, 2048, "fp16", "dense", orin))
    assert peak_us < time_us < 2 * peak_us


def test_copy_of_a_large_tensor_approaches_the_memory_bandwidth(orin: Device) -> None:
    positions = 2.0**24
    kernel = conv(kind="copy", rows=2**24, taps=1, cin=8, cout=8, read_positions=positions, write_positions=positions)
    least_us = 2 * positions * 8 * 2 / (orin.dram_gb_per_s * 1e3)
    assert least_us < float(kernel_latency_us(kernel, 8, 8, "fp16", "dense", orin)) < 2 * least_us


def test_the_smallest_kernel_costs_the_launch_overhead(orin: Device) -> None:
    kernel = conv(kind="pointwise", rows=1, taps=1, cin=1, cout=1, read_positions=1.0, write_positions=1.0)
    assert float(kernel_latency_us(kernel, 1, 1, "fp16", "dense", orin)) == pytest.approx(orin.launch_us, rel=1e-2)


def test_sparsity_gains_nothing_until_measured_or_published(orin: Device) -> None:
    kernel, unknown = conv(rows=6400), replace(orin, published_sparse_gains={})
    dense = kernel_latency_us(kernel, 256, 256, "fp16", "dense", orin)
    assert kernel_latency_us(kernel, 256, 256, "fp16", "2:4", unknown) == dense
    measured = replace(unknown, sparse_gains={"fp16": 1.5})
    assert kernel_latency_us(kernel, 256, 256, "fp16", "2:4", measured) < dense


def test_published_gains_of_sparsity_are_for_wide_float16_products(orin: Device) -> None:
    """1.17 to 1.26 times as fast where a product has 256 channels; INT8 with explicit Q/DQ gains nothing."""

    def gain(width: int, precision: Precision) -> float:
        dense, sparse = (
            float(kernel_latency_us(conv(rows=6400), width, width, precision, s, orin)) for s in ("dense", "2:4")
        )
        return dense / sparse

    assert 1.1 < gain(256, "fp16") <= 1.26
    assert gain(248, "fp16") == 1.0
    assert gain(256, "int8") == 1.0


def test_an_attention_loses_its_fused_kernel_with_other_head_sizes_or_in_float32(orin: Device) -> None:
    """TensorRT fuses it in 16 bits for equal head sizes of 16 to 256 that are multiples of 8."""
    whole = conv(kind="attention", rows=577, keys=577, groups=12, taps=1, weighted=False)

    def apart(query: int, value: int, precision: Precision = "fp16", device: Device = orin) -> float:
        cost = kernel_cost(stack([replace(whole, cin=12 * query, cout=12 * value)]), precision, "dense", device)
        return float(cost.tail_us[0])

    assert apart(64, 64) == apart(256, 256) == apart(16, 16) == 0.0
    for query, value in ((64, 56), (60, 60), (8, 8), (264, 264)):
        assert apart(query, value) > 2 * orin.launch_us
    assert apart(64, 64, "fp32") > apart(60, 60, "fp16")
    assert apart(64, 64, device=replace(orin, fused_attention=False)) > 0


def test_the_time_of_an_attention_grows_faster_than_its_tokens(orin: Device) -> None:
    """Four times the tokens are sixteen times the products; scores that are written also leave the cache."""
    attention = conv(kind="attention", groups=12, cin=768, cout=768, taps=1, weighted=False)
    short, long = (
        replace(attention, rows=n, keys=n, read_positions=2.0 * n, write_positions=2.0 * n) for n in (577, 2305)
    )
    for precision in ("fp16", "fp32"):
        one, many = latencies_us([short, long], [precision, precision], orin)
        assert 6 < many / one < 20


def test_the_image_is_brought_into_the_layout_of_the_first_convolution(orin: Device) -> None:
    first = conv(rows=320 * 320, cin=3, cout=16, read_positions=640.0 * 640)
    inner, image = latencies_us([first, replace(first, image=True)], ["fp16", "fp16"], orin)
    assert image > inner + 640 * 640 * 3 * 4 / (orin.dram_gb_per_s * 1e3)


def test_groups_of_few_channels_share_a_tile(orin: Device) -> None:
    """A convolution with 32 groups of 4 channels costs about as much as a dense one of the same width, not 8 times."""
    grouped, dense = conv(rows=40_000, cin=128, cout=128, groups=32), conv(rows=40_000, cin=128, cout=128)
    one, other = latencies_us([grouped, dense], ["int8", "int8"], orin)
    assert one <= 1.1 * other


def test_non_maximum_suppression_takes_at_least_its_kernels(orin: Device) -> None:
    plugin = conv(kind="nms", rows=8400, taps=1, cin=84, cout=4, read_positions=8400.0, write_positions=100.0)
    found = float(latencies_us([plugin], ["fp16"], orin)[0])
    assert 7 * orin.launch_us < found < 500


def test_a_slower_clock_and_fewer_multiprocessors_are_slower(orin: Device) -> None:
    kernel = conv(rows=6400)
    fast = float(kernel_latency_us(kernel, 256, 256, "fp16", "dense", orin))
    for other in (replace(orin, clock_mhz=600.0), replace(orin, sms=8), replace(orin, dram_gb_per_s=50.0)):
        assert float(kernel_latency_us(kernel, 256, 256, "fp16", "dense", other)) > fast


def test_an_int8_matmul_of_a_transformer_pays_for_quantizing_its_operand(orin: Device) -> None:
    """Far from the two to one of a convolution's: see DeiT's published gains."""
    matmul = conv(kind="matmul", rows=197, cin=384, cout=384, taps=1)
    fp16, int8 = (float(kernel_latency_us(matmul, 384, 384, p, "dense", orin)) for p in ("fp16", "int8"))
    assert int8 > 0.8 * fp16


def test_many_kernels_at_once_agree_with_one_at_a_time(orin: Device) -> None:
    several = [conv(cout=c, epilogue=e) for c in (16, 64, 256) for e in ("none", "complex")]
    wanted: list[Precision] = ["fp16", "int8", "fp32", "fp16", "int8", "fp32"]
    one_by_one = [
        float(kernel_latency_us(k, k.cin, k.cout, p, "dense", orin)) for k, p in zip(several, wanted, strict=True)
    ]
    np.testing.assert_allclose(latencies_us(several, wanted, orin), one_by_one, rtol=1e-12)


@pytest.mark.parametrize("kind", ["conv", "matmul", "attention", "depthwise", "pointwise"])
def test_a_batch_is_faster_than_single_samples(kind: str, orin: Device) -> None:
    kernel = conv(kind=kind, keys=100, weighted=kind != "attention")
    batched = with_batch(kernel, 8)
    one, eight = latencies_us([kernel, batched], ["fp16", "fp16"], orin)
    assert one < eight < 8 * one
    assert batched.macs == 8 * kernel.macs
