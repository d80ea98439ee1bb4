"""The page of results is written from the rows that are kept; nobody edits it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_rows_say():
    page = _module("results_page")
    kept = [page.Kept.of(rows) for rows in json.loads((ROOT / "benchmarks" / "results.json").read_text()).values()]
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for one in kept:
        (section,) = (part for part in text.split("\n## ") if part.startswith(one.heading))
        assert section.strip() == page.page([one], {}).partition("\n## ")[2].strip()
    assert text.count("\n## ") == len(kept)
    introduction = page.page(kept, {}).partition("\n## ")[0]
    assert text.startswith(introduction.strip())


def test_a_tool_that_is_faster_and_no_worse_is_named():
    page = _module("results_page")
    ours = page.Row("edgeprune `-x`", 2.0, (1.9, 2.1), (2.0, 1.9, 2.1), 90.0, 1.0)
    faster = page.Row("NNCF", 1.0, (0.9, 1.1), (4.0, 3.9, 4.1), 90.0, 1.0)
    worse = page.Row("other", 1.0, (0.9, 1.1), (4.0, 3.9, 4.1), 80.0, 11.0)
    kept = page.Kept("n", "Net", "right", "abc", "today", "cpu", 2, 9.0, {}, [ours, faster, worse])
    text = page.page([kept], {"another": "Another net", "third": "A third"})
    assert "edgeprune `-x` loses to NNCF: faster, and no more is lost." in text
    assert "| Net | 2.00x | 4.00x (NNCF) | **the other is faster** |" in text
    assert "Other work ran on the 2 cores meanwhile (load 9.0)" in text
    assert "One command measures them (Another net; A third):" in text
    assert "\n\n    python benchmarks/results.py --models another third\n" in text
