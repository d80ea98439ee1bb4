from __future__ import annotations

from edgeprune.report.figures import conditions
from edgeprune.report.html import to_html
from edgeprune.report.loss_part import LossPart, rows
from tests.reports import report

PARTS = (
    LossPart("nothing", "result", 3.0),
    LossPart("stem:0", "group", 2.5),
    LossPart("INT8", "lever", 2.0),
    LossPart("pruning", "lever", 0.5),
    LossPart("conv_4", "layer", 3.25),
)


def test_the_costliest_first_within_each_kind():
    assert rows(PARTS) == [
        ("nothing", "3.00", ""),
        ("pruning", "0.50", "+2.50"),
        ("INT8", "2.00", "+1.00"),
        ("stem:0", "2.50", "+0.50"),
        ("conv_4", "3.25", "-0.25"),
    ]
    assert rows(()) == []


def test_the_page_and_the_conditions_show_them():
    page = to_html(report(losses=PARTS, operating_point={"power mode": "MAXN", "clocks": "locked"}), {})
    assert "Why it is worse" in page
    assert "stem:0" in page
    assert "Why it is worse" not in to_html(report(), {})
    assert ("power mode", "MAXN") in conditions(report(operating_point={"power mode": "MAXN"}))
