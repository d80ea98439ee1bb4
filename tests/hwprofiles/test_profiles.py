"""The profiles themselves: valid, complete, and every figure with its source."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from edgeprune.devices.profile_schema import schema, validate
from edgeprune.devices.targets import load_profile, target_names

_NOT_FIGURES = frozenset("schema name aliases title kind source provenance default_power_mode precisions".split())  # noqa: SIM905


@pytest.mark.parametrize("name", target_names())
def test_profile_is_valid_and_named_as_its_file(name: str) -> None:
    document = json.loads((files("edgeprune.hwprofiles") / f"{name}.json").read_text(encoding="utf-8"))
    validate(document, name)
    assert document["name"] == name


@pytest.mark.parametrize("name", target_names())
def test_every_figure_has_its_source(name: str) -> None:
    document = load_profile(name).document
    sources = {key.split(".")[0] for key in document["provenance"]}
    figures = set(document) - _NOT_FIGURES
    if document.get("dla", {}).get("count") == 0:
        figures.discard("dla")
    assert figures <= sources


@pytest.mark.parametrize("name", target_names())
def test_precisions_agree_throughout(name: str) -> None:
    document = load_profile(name).document
    if document["source"] == "analytic":
        assert list(document["matrix_fma_per_clock_per_sm"]) == document["precisions"]
        for part in ("padding", "fused_tails", "efficiency"):
            assert sorted(document["cost_model"][part]) == sorted(document["precisions"])


def test_aliases_are_unambiguous() -> None:
    names = [n for t in target_names() for n in (t, *load_profile(t).document.get("aliases", ()))]
    assert len(names) == len(set(names))


def test_a_family_shares_its_parameters() -> None:
    models = {t: load_profile(t).document["cost_model"] for t in target_names() if t.startswith("orin")}
    assert all(m == models["orin"] for m in models.values())


def test_peak_of_agx_orin_is_nvidias() -> None:
    """85 dense INT8 TOPS of the GPU alone: half of the 171 with 2:4 sparsity; 275 counts sparsity and both DLAs."""
    orin = load_profile("orin").device()
    tops = 2 * orin.matrix_fma["int8"] * orin.sms * orin.clock_mhz / 1e6
    assert tops == pytest.approx(85.2, abs=0.1)


def test_the_schema_uses_only_what_is_implemented() -> None:
    validate(json.loads((files("edgeprune.hwprofiles") / "orin.json").read_text(encoding="utf-8")), "orin.json")
    assert schema()["additionalProperties"] is False
