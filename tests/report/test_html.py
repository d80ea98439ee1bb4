from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune.report import web_page as shell
from edgeprune.report.graph_view import Box, Picture
from edgeprune.report.html import to_html
from edgeprune.report.model import Layer, Refusal
from edgeprune.report.output_files import write_report
from tests.report.pages import Page, figures
from tests.reports import report

PLAN = {
    "groups": [{"id": "g<1>", "unit": "channel", "size": 4, "kept": [0, 1, 3], "tensors": ["w"]}],
    "initializers": {"w": {"0": {"role": "producer", "kept": [0, 1, 3]}}},
    "layers": [
        {"node": "conv_a", "op": "Conv", "precision": "int8", "sparsity": "dense", "latency_us": 12.5},
        {"node": "act_3", "op": "Relu", "precision": "int8", "sparsity": "dense", "latency_us": None},
        {"node": "conv_b", "op": "Conv", "precision": "fp16", "sparsity": "2:4", "latency_us": 8.0},
    ],
}
PICTURE = Picture(
    (
        Box("Conv", "conv_a", (0,), "g<1>", (), {"w": (4, 3, 1, 1)}),
        Box("Relu", "act_3", (0,), "g<1>", (0,), {}),
        Box("Conv", "conv_b", (), "frozen: output of the graph [y]", (1,), {"v": (2, 4, 1, 1)}),
    ),
    ("g<1>",),
)


def test_the_page_is_whole_and_needs_nothing_else():
    text = to_html(report(warnings=("a <b> tag",)), PLAN, PICTURE)
    found = Page(text)
    assert found.outside == []
    assert "a <b> tag" in found.text
    assert "g<1>" in found.text
    for part in ("3 of 4", "conv_b", "12.5", "com.acme::Swoosh", "93.10%", "92.60%", "with conv_a", "2:4", "13"):
        assert any(part in said for said in found.text), part
    assert [title.removesuffix("-title") for title in found.titles()] == [
        "before-and-after",
        "latency",
        "speed-against-accuracy",
        "layers",
        "groups",
        "graph",
        "refused-and-why",
        "never-measured",
        "conditions",
    ]


def test_every_chart_has_its_figure_and_its_words():
    text = to_html(report(), PLAN, PICTURE)
    charts = Page(text).charts()
    assert (
        set(charts)
        == set(figures(text))
        == {
            "chart-latency",
            "chart-rounds",
            "chart-tradeoff",
            "chart-layers",
            "chart-groups",
        }
    )
    assert all(charts.values())


def test_names_cannot_end_the_script():
    hostile = Layer("</script><b>", ("</script><b>",), "int8", 1.0)
    text = to_html(report(layers=(hostile,)), {})
    assert figures(text)["chart-layers"]["data"][0]["customdata"] == ["</script><b>"]
    assert "<b>" not in [tag for tag, _ in Page(text).found]


def test_what_is_missing_is_left_out():
    bare = report(latency=None, predicted=None, accuracy=None, refused=(), seconds={}, warnings=(), layers=())
    found = Page(to_html(bare, {}))
    assert found.titles() == ["before-and-after-title", "never-measured-title", "conditions-title"]
    assert found.charts() == {}
    assert "script" in [tag for tag, _ in found.found]  # of the page, without the charts' library
    assert len(to_html(bare, {})) < 50_000


def test_without_plotly_the_tables_remain(monkeypatch: pytest.MonkeyPatch):
    shell._library.cache_clear()
    monkeypatch.setattr(shell, "find_spec", lambda name: None)
    found = Page(to_html(report(), PLAN, PICTURE))
    shell._library.cache_clear()
    assert any("Charts need plotly" in text for text in found.text)
    assert "conv_b" in found.text


def test_tables_are_named_and_can_be_reached_by_keyboard():
    found = Page(to_html(report(refused=(Refusal("because", 3, ("n",)),)), PLAN, PICTURE))
    scrolled = [a for tag, a in found.found if a.get("class") == "scroll"]
    assert len(scrolled) == sum(tag == "table" for tag, _ in found.found)
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in scrolled)


def test_files(tmp_path: Path):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    write_report(tmp_path, report(), PICTURE)
    assert "conv_a" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["schema"] == 1
