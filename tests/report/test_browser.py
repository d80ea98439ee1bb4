"""The pages in a real browser: they draw, fit, follow the scheme, are reached by keyboard, print, and pass axe's rules.

Needs the extra [browser] and a Chromium: Playwright's own, or one on the PATH.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeprune.dependency.drawing_page import drawing_html as inspection_page
from edgeprune.dependency.graph_drawing import picture
from edgeprune.dependency.inspection import inspect_model
from edgeprune.dependency.solve import analyse
from edgeprune.report.comparison import comparison_html as comparison_page
from edgeprune.report.html import to_html
from edgeprune.report.model import Budget, Layer
from edgeprune.report.runs import Run
from tests.models import single
from tests.reports import latency, measurement, report

pytestmark = pytest.mark.slow

SCREENS = {"phone": (390, 844), "desktop": (1280, 900)}
PAGES = ("report", "bare", "comparison", "inspection")
BODY = """g (float[1,3,4,4] x) => (float[1,4,4,4] y) {
    [first] h = Conv(x, w1) [second] r = Relu(h) [third] s = Conv(r, w3) [fourth] t = Relu(s) [last] y = Conv(t, w2)
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra [browser] is not installed")
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    with playwright.sync_playwright() as runner:
        own = Path(runner.chromium.executable_path)
        if not own.exists() and found is None:
            pytest.skip("no Chromium: run `playwright install chromium`, or install one on the PATH")
        place = None if own.exists() else found
        opened = runner.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = single(BODY, w1=(6, 3, 1, 1), w3=(8, 6, 1, 1), w2=(4, 8, 1, 1))
    drawn = picture(analyse(model))
    plan = {
        "groups": [{"id": g, "unit": "channel", "size": 6, "kept": [0, 1, 3], "tensors": []} for g in drawn.groups],
        "layers": [
            {"node": box.name, "op": box.op, "precision": "int8", "sparsity": "dense", "latency_us": None}
            for box in drawn.boxes
        ],
    }
    layers = tuple(Layer(b.name, (b.name,), "int8", 10.0 + k, 11.0, 20.0, 0.01) for k, b in enumerate(drawn.boxes))
    timed = latency(
        measurement(6.0, noise=0.05), measurement(2.0, noise=0.05, seed=1), variants={"int8": measurement(3.0)}
    )
    whole = report(latency=timed, layers=layers, budget=Budget(latency_ms=2.5, met=True))
    bare = report(latency=None, predicted=None, accuracy=None, layers=(), warnings=())
    folder = tmp_path_factory.mktemp("pages")
    for name, text in (
        ("report", to_html(whole, plan, drawn)),
        ("bare", to_html(bare, {})),
        ("comparison", comparison_page([Run("one", whole, plan), Run("two", report(), plan)])),
        ("inspection", inspection_page(inspect_model(model))),
    ):
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


class Tab:
    """One page in the browser, and all that it complained of or asked for."""

    def __init__(self, browser: Any, file: Path, screen: str = "desktop", scheme: str = "light"):
        width, height = SCREENS[screen]
        phone = screen == "phone"
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=phone, is_mobile=phone
        )
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        if self.page.query_selector("#figures"):
            self.page.wait_for_selector("html[data-charts=drawn]")
        self.page.wait_for_timeout(100)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", list(SCREENS))
@pytest.mark.parametrize("name", PAGES)
def test_it_draws_fits_and_is_accessible(browser: Any, pages: Path, name: str, screen: str, scheme: str):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the extra [browser] is not installed")
    with Tab(browser, pages / f"{name}.html", screen, scheme) as tab:
        drawn = tab.page.evaluate(
            "[...document.querySelectorAll('.chart')].map(c => c.querySelector('.main-svg')?.clientWidth)"
        )
        assert len(drawn) == {"report": 5, "bare": 0, "comparison": 2, "inspection": 0}[name]
        assert all(width and width > 200 for width in drawn)
        assert tab.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        violations = axe.Axe().run(tab.page).response["violations"]
        assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []
        assert tab.complaints == []
        assert all(url.startswith(("file:", "blob:", "data:")) for url in tab.requests)


def test_colours_follow_the_scheme(browser: Any, pages: Path):
    with Tab(browser, pages / "report.html") as tab:
        text = "getComputedStyle(document.querySelector('#chart-latency text')).fill"
        light = tab.page.evaluate(text)
        tab.page.emulate_media(color_scheme="dark")
        tab.page.wait_for_timeout(300)
        assert tab.page.evaluate(text) != light


def test_by_keyboard(browser: Any, pages: Path):
    with Tab(browser, pages / "report.html") as tab:
        page = tab.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        heads = page.locator("#layers thead button")
        assert heads.count() == 10
        heads.nth(6).focus()
        page.keyboard.press("Enter")
        assert page.locator("#layers thead th").nth(6).get_attribute("aria-sort") == "descending"
        assert page.locator("#layers tbody th").first.inner_text() == "last"
        frame, width = page.locator(".graph-frame"), "document.querySelector('.graph-frame svg').clientWidth"
        frame.focus()
        before = page.evaluate(width)
        page.keyboard.press("+")
        assert page.evaluate(width) > before
        page.locator("[data-find]").fill("third")
        assert "Conv third" in page.locator(".graph-tip").inner_text()
        assert page.locator(".node.found").count() == 1
        page.locator("[data-colour]").select_option("time")
        assert page.locator(".node rect").first.evaluate("rect => rect.style.fill") != ""


def test_a_click_marks_the_group(browser: Any, pages: Path):
    with Tab(browser, pages / "inspection.html") as tab:
        tab.page.locator(".node").first.click()
        assert tab.page.locator(".node.same").count() == 2


def test_it_prints_light_and_unfolded(browser: Any, pages: Path):
    with Tab(browser, pages / "report.html", scheme="dark") as tab:
        tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        tab.page.emulate_media(media="print", color_scheme="dark")
        assert tab.page.evaluate("document.querySelectorAll('details:not([open])').length") == 0
        assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        display = "getComputedStyle(document.querySelector('thead button')).display"
        assert tab.page.evaluate(display) == "contents"  # Chromium repeats no buttons on the following pages
        widths = tab.page.evaluate(
            "[...document.querySelectorAll('.main-svg')].map(s => s.getBoundingClientRect().width)"
        )
        assert max(widths) <= 680
        tab.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert tab.page.evaluate("document.querySelectorAll('details[open]').length") == 0
        assert len(tab.page.pdf(format="A4", print_background=True)) > 20_000
