"""Formats and TensorRT versions that follow from a target and the options of a compile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprune.build.device_options import check_sparsity, formats_of, versions_of
from edgeprune.devices.targets import load_profile
from edgeprune.errors import TargetError, UsageError


@pytest.mark.parametrize(
    ("precision", "formats"),
    [("auto", ("fp16", "int8")), ("int8", ("fp16", "int8")), ("fp16", ("fp16",)), ("fp32", ("fp32",))],
)
def test_integers_stand_beside_the_float_format(precision: str, formats: tuple[str, ...]) -> None:
    assert formats_of(precision, load_profile("orin")) == formats


def test_a_device_without_integer_products_has_float_formats_alone() -> None:
    assert formats_of("auto", load_profile("nano")) == ("fp16",)


def test_a_graph_for_strongly_typed_versions_suits_the_newest_too() -> None:
    versions = versions_of(load_profile("orin"))
    assert versions[-1] == "11.0"
    assert all(v.startswith(("10.", "11.")) for v in versions)
    assert all(v.startswith("8.") for v in versions_of(load_profile("xavier-agx")))


def test_too_old_a_tensorrt_is_refused() -> None:
    orin = load_profile("orin")
    old = replace(orin, document={**orin.document, "tensorrt": ["7.1", "8.2"]})
    with pytest.raises(TargetError, match=r"orin has TensorRT 7\.1, 8\.2; graphs that state their precision need 8\.5"):
        versions_of(old)


def test_sparsity_needs_the_hardware_and_16_bits_or_less() -> None:
    check_sparsity("2:4", "auto", load_profile("orin"))
    check_sparsity("auto", "fp32", load_profile("xavier-agx"))
    with pytest.raises(UsageError, match="xavier-agx has no 2:4 sparse tensor cores"):
        check_sparsity("2:4", "auto", load_profile("xavier-agx"))
    with pytest.raises(UsageError, match="needs fp16 or int8"):
        check_sparsity("2:4", "fp32", load_profile("orin"))
