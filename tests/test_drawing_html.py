from html.parser import HTMLParser

import pytest

from edgeprune.drawing_html import layout, to_html
from edgeprune.inspection import inspect_model
from tests.models import single

VOID = {"meta", "rect", "path"}


class Page(HTMLParser):
    """Elements of a page with their attributes; refuses tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


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
    return Page(to_html(inspect_model(model)))


def test_nodes_lead_to_their_group_and_frozen_ones_say_why() -> None:
    found = page()
    links = [attributes.get("href") for tag, attributes in found.found if tag == "a"]
    assert links == ["#group-0", "#group-0", None]
    assert "group-0" in [attributes.get("id") for tag, attributes in found.found if tag == "tr"]
    assert sum(tag == "path" for tag, _ in found.found) == 2
    assert any(text.endswith("w1:0") for text in found.text)
    assert "Conv last\nfrozen: output of the graph [y]" in found.text


def test_the_page_needs_nothing_else_and_escapes_names() -> None:
    found = page()
    assert {"script", "link", "img"}.isdisjoint(tag for tag, _ in found.found)
    assert all(str(a.get("href", "#")).startswith("#") for _, a in found.found if a.get("href"))
    assert "<script>" in found.text


@pytest.mark.parametrize(
    ("sources", "places"),
    [
        ([], []),
        ([[], [0], [1]], [(0, 0), (0, 1), (0, 2)]),
        ([[], [0], [0], [1, 2]], [(0.5, 0), (0, 1), (1, 1), (0.5, 2)]),
        ([[], [0], [1, 0]], [(0, 0), (0, 1), (0, 2)]),
    ],
)
def test_nodes_stand_below_their_sources(sources: list[list[int]], places: list[tuple[float, int]]) -> None:
    assert layout(sources) == places
