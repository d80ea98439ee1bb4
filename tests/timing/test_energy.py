from __future__ import annotations

import pytest

from edgeprune.timing.energy import energy_of


def log(mw_by_rail: dict[str, list[float]], start: float = 0.0, step: float = 0.1) -> str:
    """Samples at 5 V."""
    rows = [
        (start + k * step, f"{start + k * step:.9f} {rail}|5000 {mw / 5:g}")
        for rail, values in mw_by_rail.items()
        for k, mw in enumerate(values)
    ]
    return "\n".join(text for _, text in sorted(rows))


def test_idling_is_subtracted_and_the_rail_is_named():
    found = energy_of(log({"VDD_IN": [5000.0] * 20}), log({"VDD_IN": [12000.0] * 50}), period_ms=4.0, seconds=5.0)
    assert found is not None
    assert found.rails == ("VDD_IN",)
    assert (found.idle_mw, found.busy_mw) == (5000.0, 12000.0)
    assert found.mj == pytest.approx(28.0)  # 7 W for 4 ms


def test_what_was_sampled_before_the_loop_does_not_count():
    """The program loads the engine for 10 s, on the processor."""
    busy = log({"VDD_IN": [6000.0] * 100 + [15000.0] * 30})
    found = energy_of(log({"VDD_IN": [5000.0] * 20}), busy, period_ms=1.0, seconds=3.0)
    assert found is not None
    assert found.busy_mw == 15000.0
    assert found.samples == pytest.approx(27, abs=1)


def test_rails_of_parts_are_added_up_where_none_feeds_the_module():
    rest = {"VDD_GPU_SOC": [2000.0] * 9, "VDD_CPU_CV": [1000.0] * 9}
    work = {"VDD_GPU_SOC": [9000.0] * 9, "VDD_CPU_CV": [1500.0] * 9}
    parts = energy_of(log(rest), log(work), 2.0, 9.0)
    assert parts is not None
    assert parts.rails == ("VDD_CPU_CV", "VDD_GPU_SOC")
    assert parts.mj == pytest.approx(15.0)
    whole = energy_of(log({**rest, "VDD_IN": [6000.0] * 9}), log({**work, "VDD_IN": [14000.0] * 9}), 2.0, 9.0)
    assert whole is not None
    assert whole.rails == ("VDD_IN",)


@pytest.mark.parametrize(
    ("idle", "busy", "period_ms"),
    [
        ("", log({"VDD_IN": [9000.0] * 9}), 2.0),
        (log({"VDD_IN": [5000.0] * 9}), "", 2.0),
        (log({"VDD_IN": [5000.0] * 9}), log({"VDD_IN": [9000.0] * 2}), 2.0),
        (log({"VDD_IN": [5000.0] * 9}), log({"VDD_IN": [4000.0] * 9}), 2.0),
        (log({"VDD_IN": [5000.0] * 9}), log({"VDD_IN": [9000.0] * 9}), 0.0),
        ("cut of", "1.0 VDD_IN|50", 2.0),
    ],
)
def test_no_energy_is_better_than_a_wrong_one(idle: str, busy: str, period_ms: float):
    assert energy_of(idle, busy, period_ms, 9.0) is None
