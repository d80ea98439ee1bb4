"""Targets by name."""

from __future__ import annotations

import copy
import json
from importlib.resources import files

import pytest

from edgeprune.devices.targets import load_profile, parse_profile, target_names
from edgeprune.errors import ProfileError, TargetError

ALL = (
    "a10 a100 cpu l4 nano orin orin-agx-32 orin-nano-4 orin-nano-8 orin-nx-16 orin-nx-8 rtx-3080 rtx-4090 t4 thor "
    "xavier-agx xavier-nx"
)


def document(name: str) -> dict[str, object]:
    return dict(json.loads((files("edgeprune.hwprofiles") / f"{name}.json").read_text(encoding="utf-8")))


def test_all_promised_targets_are_there() -> None:
    assert " ".join(target_names()) == ALL


@pytest.mark.parametrize(("name", "means"), [("orin", "orin"), ("Orin-Nano", "orin-nano-8"), ("AGX_ORIN", "orin")])
def test_names_and_aliases(name: str, means: str) -> None:
    assert load_profile(name).name == means


def test_unknown_target_names_what_is_near() -> None:
    with pytest.raises(TargetError, match=r"unknown target 'orin-nan'; did you mean .*orin-nano") as caught:
        load_profile("orin-nan")
    assert caught.value.exit_code == 2
    with pytest.raises(TargetError, match="known targets: a10, a100"):
        load_profile("§§§")


def test_the_fastest_power_mode_is_the_default() -> None:
    for name in target_names():
        profile = load_profile(name)
        if profile.source == "analytic":
            best = max(m.sms * m.gpu_mhz for m in profile.power_modes)
            assert profile.power_mode().sms * profile.power_mode().gpu_mhz == best


def test_power_modes_by_nvidias_names() -> None:
    orin = load_profile("orin")
    assert [m.name for m in orin.power_modes] == ["MAXN", "50W", "30W", "15W"]
    assert orin.power_mode("maxn") == orin.power_mode()
    assert orin.device("30W").sms == 8
    with pytest.raises(TargetError, match="has no power mode '25W'; it has MAXN, 50W, 30W, 15W"):
        orin.device("25W")


def test_a_measured_target_has_no_analytic_device() -> None:
    cpu = load_profile("cpu")
    assert cpu.source == "measured at first use"
    with pytest.raises(ProfileError, match="measured at first use"):
        cpu.device()
    with pytest.raises(TargetError, match="has no power modes"):
        cpu.power_mode()


def test_channel_steps_by_precision_and_sparsity() -> None:
    orin = load_profile("orin")
    steps = [orin.channel_step(p) for p in ("fp32", "fp16", "int8")]
    assert steps == [4, 8, 32]
    assert orin.channel_step("fp16", "2:4") == 16


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("l2_mb", -1, "l2_mb is not above 0"),
        ("l2_mb", True, "l2_mb must be of type number"),
        ("kind", "tpu", 'kind is "tpu", but must be one of "gpu", "cpu"'),
        ("name", "Orin!", "does not match"),
        ("speed", 9, "speed is not a field of the schema"),
        ("power_modes", [], "power_modes has fewer items than 1"),
        ("default_power_mode", "99W", "default_power_mode '99W' is not one of power_modes"),
    ],
)
def test_invalid_profile_is_refused_with_the_field(path: str, value: object, message: str) -> None:
    broken = copy.deepcopy(document("orin"))
    broken[path] = value
    with pytest.raises(ProfileError, match=message) as caught:
        parse_profile(broken, "my.json")
    assert "profile my.json" in str(caught.value)


@pytest.mark.parametrize("key", ["power_modes", "cost_model", "l2_mb", "family"])
def test_analytic_profile_needs_what_is_computed_from(key: str) -> None:
    broken = document("orin")
    del broken[key]
    with pytest.raises(ProfileError, match=f"needs '{key}'"):
        parse_profile(broken, "my.json")
