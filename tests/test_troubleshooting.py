"""Every message that the troubleshooting page explains is one that the code can print."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE)


@cache
def templates() -> frozenset[str]:
    """Every text in the source, with an ellipsis for what is filled in."""
    found = set()
    for file in (f for folder in ("edgeprune", "passes") for f in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.add("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
    return frozenset(text for text in found if " " in text)


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_printed_somewhere(message: str):
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("…") if part.strip()), re.DOTALL)
    assert [text for text in templates() if pattern.search(text)], f"nothing prints {message!r}"


def test_every_message_is_said_once():
    assert len(MESSAGES) == len(set(MESSAGES)) > 30
