"""Reading the web pages that edgeprune writes."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "rect", "path", "input"}


class Page(HTMLParser):
    """Elements of a page with their attributes; refuses tags that do not nest, ids given twice, and broken links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []
        ids = [a["id"] for _, a in self.found if "id" in a]
        assert len(ids) == len(set(ids))
        assert {a["href"].removeprefix("#") for t, a in self.found if t == "a" and "href" in a} <= set(ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())

    @property
    def outside(self) -> list[str]:
        """Whatever the page would load from elsewhere."""
        loads = [a[name] for t, a in self.found for name in ("src", "href", "srcset", "data") if name in a and t != "g"]
        return [target for target in loads if not target.startswith("#")]

    def titles(self) -> list[str]:
        """Headings of the sections."""
        return [a["aria-labelledby"] for t, a in self.found if t == "section"]

    def charts(self) -> dict[str, str]:
        """Id of every chart -> what it tells those who do not see it."""
        return {a["id"]: a["aria-label"] for t, a in self.found if a.get("class") == "chart"}


def figures(text: str) -> dict[str, dict[str, Any]]:
    """The charts' data and layouts in a page."""
    _, _, rest = text.partition('<script type="application/json" id="figures">')
    found: dict[str, dict[str, Any]] = json.loads(rest.partition("</script>")[0])
    return found
