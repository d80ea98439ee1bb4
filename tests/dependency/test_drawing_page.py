from edgeprune.dependency.drawing_page import drawing_html
from edgeprune.dependency.inspection import inspect_model
from tests.models import single
from tests.report.pages import Page


def page() -> Page:
    model = single(
        """g (float[1,3,4,4] x) => (float[1,4,4,4] y) {
            [first] h = Conv(x, w1)
            ["<script>"] r = Relu(h)
            [last] y = Conv(r, w2)
        }""",
        w1=(6, 3, 1, 1),
        w2=(4, 6, 1, 1),
    )
    return Page(drawing_html(inspect_model(model)))


def test_nodes_tell_their_group_and_frozen_ones_why() -> None:
    found = page()
    assert [a["data-groups"] for _, a in found.found if a.get("class") == "node"] == ["0", "0", ""]
    assert sum(tag == "path" for tag, _ in found.found) == 2
    assert any(text.endswith("w1:0") for text in found.text)
    assert "Conv last\nfrozen: output of the graph [y]" in found.text


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    found = page()
    assert found.outside == []
    assert "<script>" in found.text
    assert found.titles() == ["graph-title", "groups-title", "frozen-title"]
