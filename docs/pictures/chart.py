"""The parts that the pictures of the documentation share: a frame, axes, and colours on a light and a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
LEFT, TOP, WIDTH, HEIGHT = 70, 40, 560, 260
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #57606a } .grid { stroke: #8c959f; opacity: .5 }
  .c1 { stroke: #2f6fdf; fill: #2f6fdf } .c2 { stroke: #b45309; fill: #b45309 } .line { fill: none; stroke-width: 2 }
  .bar { stroke: none } .interval { stroke: #57606a; stroke-width: 2 }
  @media (prefers-color-scheme: dark) { text { fill: #9198a1 } .interval { stroke: #9198a1 }
    .c1 { stroke: #6ea3ff; fill: #6ea3ff } .c2 { stroke: #f0a64b; fill: #f0a64b } .line { fill: none }
    .bar { stroke: none } }
"""


def text(x: float, y: float, said: str, anchor: str = "start") -> str:
    """One line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def write(name: str, title: str, parts: Sequence[str], *, width: float = LEFT + WIDTH + 30, height: float) -> None:
    """Write a picture beside this file."""
    body = "\n".join([text(10, 20, title), *parts])
    size = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">'
    (HERE / name).write_text(f"{head}\n<style>{STYLE}</style>\n{body}\n</svg>\n", encoding="utf-8")
