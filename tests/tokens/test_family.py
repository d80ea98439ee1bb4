"""The schedules that are tried."""

from __future__ import annotations

import pytest

from edgeprune.passes.tokens import SETTINGS, Site
from edgeprune.tokens.family import schedules

SITES = [
    Site(f"{kind}{k}", f"sum_{kind}{k}", 197, 1, 11 - k, 8 * (12 - k))
    for k in range(12)
    for kind in ("attended", "block")
]


def test_no_schedule_is_there_twice_and_each_lets_no_more_leave_than_can() -> None:
    found = schedules(SITES, SETTINGS)
    assert len(set(found)) == len(found) > 15
    assert {schedule.setting for schedule in found} == set(SETTINGS)
    for schedule in found:
        count = 197
        for site, leave in zip(schedule.sites, schedule.leave, strict=True):
            assert 0 < leave <= SETTINGS[schedule.setting].most(count, 1), schedule
            assert site.value.startswith("attended")
            count -= leave
        assert schedule.stay == count


def test_the_tokens_that_stay_are_a_multiple_where_asked() -> None:
    found = schedules(SITES, ["saint"], multiple=8)
    assert found
    assert {schedule.stay % 8 for schedule in found} == {0}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_one_setting_may_be_asked_for(name: str) -> None:
    assert {schedule.setting for schedule in schedules(SITES, [name])} == {name}


def test_a_network_of_few_blocks_has_fewer_schedules() -> None:
    few = [site for site in SITES if site.attentions in (10, 11)]
    assert 0 < len(schedules(few, SETTINGS)) < len(schedules(SITES, SETTINGS))
