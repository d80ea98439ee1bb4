"""The table of TensorRT versions."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edgeprune.build.device_options import versions_of
from edgeprune.devices.targets import load_profile
from edgeprune.errors import PassError
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from edgeprune.passes.tensorrt.versions import NEWEST, OLDEST, RELEASES, STRONGLY_TYPED, release
from tests.models import single

TEXT = "g (float[1,32,8,8] x) => (float[1,32,8,8] y) { c = Conv(x, w) y = Relu(c) }"


def test_rows_are_in_order_and_never_lose_an_ability() -> None:
    for older, newer in pairwise(RELEASES):
        assert older.since < newer.since
        assert older.opset <= newer.opset
        assert (older.stored_int8, older.fp8) <= (newer.stored_int8, newer.fp8)
    assert (OLDEST, STRONGLY_TYPED, NEWEST) == ((8, 5), (10, 0), "11.0")


@pytest.mark.parametrize(
    ("version", "opset", "typing"),
    [
        ((8, 5), 17, "weak"),
        ((10, 3), 20, "flag"),
        ((10, 13), 22, "flag"),
        ((10, 16), 24, "flag"),
        ((11, 4), 24, "strong"),
    ],
)
def test_the_versions_of_jetpack_5_6_and_7(version: tuple[int, int], opset: int, typing: str) -> None:
    found = release(version)
    assert (found.opset, found.typing) == (opset, typing)


def test_older_versions_are_refused() -> None:
    with pytest.raises(PassError, match=r"before 8\.5 is not supported"):
        release((8, 4))


def test_orin_and_thor_have_what_jetpack_7_2_brought() -> None:
    for name in ("orin", "orin-nano-8", "orin-nx-16", "thor"):
        assert load_profile(name).tensorrt[-1] == "10.16"
        assert versions_of(load_profile(name))[-2:] == ("10.16", "11.0")


@pytest.mark.parametrize("name", ["orin", "thor", "xavier-nx"])
def test_a_lowered_graph_has_an_opset_that_all_versions_of_the_target_parse(name: str) -> None:
    versions = versions_of(load_profile(name))
    model = single(TEXT, w=(32, 32, 1, 1))
    ranges = dict.fromkeys(("x", "c", "y"), (-1.0, 1.0))
    lowered = lower_tensorrt(model, {str(n.name): "int8" for n in model.graph}, ranges, target_versions=versions)
    newest = min(release((int(major), int(minor))).opset for major, minor in (v.split(".") for v in versions))
    assert 13 <= lowered.graph.opset_imports[""] <= newest
