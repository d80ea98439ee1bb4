"""Draw the rooms of the package, and who imports whom, from the import statements: docs/pictures/rooms.svg.

usage: python docs/pictures/rooms.py [--check]

A room stands one floor above the highest room that it imports. A line from A down to B says that A imports B. A line is
left out where others say it already: where A imports C, and C imports B. With --check nothing is written: the script
ends with 1 where the picture on disk is stale.
"""

from __future__ import annotations

import ast
import random
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache, partial
from html import escape
from itertools import pairwise
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.architecture import ROOMS, ROOTS, modules, room_imports, room_of  # noqa: E402

FILE = HERE / "rooms.svg"
WIDTH, MARGIN, GAP = 880.0, 8.0, 10.0
NARROW, WIDE, LEAN = 30.0, 50.0, 40.0
PASSAGE, INSET, PADDING, LINE = 10.0, 16.0, 10.0, 15.0
TITLE_PX, TEXT_PX = 13.5, 11.5
STEPS, STARTS = 40, 60
STYLE = """
  text { font: 11.5px system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; fill: #57606a }
  .title { font-size: 13.5px; font-weight: 600; fill: #1f2328 } .files { text-anchor: end }
  rect { fill: #f6f8fa; stroke-width: 1.5 } .edgeprune { stroke: #2f6fdf } .passes { stroke: #b45309 }
  .hwprofiles { stroke: #2b8a4b } .line { fill: none; stroke: #8c959f; stroke-width: 1.5 } .head { fill: #8c959f }
  @media (prefers-color-scheme: dark) { text { fill: #a3abb5 } .title { fill: #e6edf3 } rect { fill: #1c2128 }
    .edgeprune { stroke: #6ea3ff } .passes { stroke: #f0a64b } .hwprofiles { stroke: #57ab6e } }
"""

Node = tuple[str, int]
"""A room and a floor: the room itself on its own floor, or below its importers the passage that leads down to it."""
Span = tuple[float, float]
"""From the left to the right, in pixels."""


@cache
def floors() -> dict[str, int]:
    """Room -> how many rooms stand below it on the longest way down."""
    found: dict[str, int] = {}
    for room in ROOMS:
        found[room] = 1 + max((found[other] for other in room_imports()[room]), default=-1)
    return found


@cache
def below(room: str) -> frozenset[str]:
    """All rooms that a room imports, by way of others too."""
    return room_imports()[room].union(*map(below, room_imports()[room]))


def imports_to_draw(room: str) -> list[str]:
    """The rooms that a room imports, without those that one of these imports already."""
    mine = room_imports()[room]
    return [other for other in ROOMS if other in mine and not any(other in below(nearer) for nearer in mine)]


@cache
def links() -> list[tuple[Node, Node]]:
    """From one floor to the next: each drawn import, those of one room by one passage."""
    found: dict[tuple[Node, Node], None] = {}
    for room in ROOMS:
        for other in imports_to_draw(room):
            way = [(room, floors()[room]), *((other, f) for f in range(floors()[room] - 1, floors()[other] - 1, -1))]
            found |= dict.fromkeys(pairwise(way))
    return list(found)


def is_room(node: Node) -> bool:
    """Whether a node is the room itself."""
    return floors()[node[0]] == node[1]


@cache
def purpose(room: str) -> str:
    """The first line of a room's docstring."""
    said = ast.get_docstring(ast.parse(modules()[f"edgeprune.{room}"].read_text(encoding="utf-8"))) or ""
    return said.partition("\n")[0].replace("`", "")


@cache
def files(room: str) -> int:
    """How many Python files a room has."""
    return sum(room_of(name) == room for name in modules().keys() - ROOTS)


def name(room: str) -> str:
    """A room as a path."""
    return "errors.py" if room == "errors" else room.replace(".", "/")


@cache
def text_px(said: str, size: float) -> float:
    """How wide a text may be, in the widest of the fonts that are in common use."""
    ems = sum(0.36 if c in "fijlrt.,:;'()/ " else 0.95 if c in "mwMW" else 0.75 if c.isupper() else 0.63 for c in said)
    return size * ems


def wrapped(said: str, width: float) -> list[str]:
    """A text in lines that are no wider than that."""
    lines = [""]
    for word in said.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_px(longer, TEXT_PX) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def least_width(node: Node) -> float:
    """What a node needs: a room its name and its number of files."""
    if not is_room(node):
        return PASSAGE
    return text_px(name(node[0]), TITLE_PX * 1.06) + text_px(f"  {files(node[0])}", TEXT_PX) + 2 * PADDING


@cache
def widths(floor: frozenset[Node]) -> dict[Node, float]:
    """How wide everything on a floor is: together the whole width, so that no room needs more lines than it must."""
    found = {node: least_width(node) for node in sorted(floor)}
    rooms = [node for node in found if is_room(node)]
    spare = WIDTH - 2 * MARGIN - GAP * (len(floor) - 1) - sum(found.values())
    for _ in range(STEPS):
        tallest = max(rooms, key=lambda node: (len(lines_of(node, found[node])), -found[node]))
        found[tallest] += spare / STEPS
    return found


@cache
def placed(floor: tuple[Node, ...]) -> dict[Node, Span]:
    """Where everything on a floor is, in this order."""
    at, found, wide = MARGIN, {}, widths(frozenset(floor))
    for node in floor:
        found[node] = (at, at + wide[node])
        at += wide[node] + GAP
    return found


def lines_of(node: Node, width: float) -> list[str]:
    """What a room of this width says of itself."""
    return wrapped(purpose(node[0]), width - 2 * PADDING)


@cache
def doorways(floor: tuple[Node, ...]) -> dict[Node, Span]:
    """Where lines may leave and enter everything on a floor: a passage in its middle."""
    found = {}
    for node, (left, right) in placed(floor).items():
        inset = INSET if is_room(node) else (right - left) / 2
        found[node] = (left + inset, right - inset)
    return found


def ends(above: Span, under: Span) -> Span:
    """Where a line leaves the upper doorway and where it enters the lower one: straight down where that is possible."""
    (a, b), (c, d) = above, under
    if b < c:
        return b, c
    if d < a:
        return a, d
    middle = ((a if a > c else c) + (b if b < d else d)) / 2
    return middle, middle


@cache
def links_down(floor: int) -> list[tuple[Node, Node]]:
    """The links from a floor to the next below it."""
    return [link for link in links() if link[0][1] == floor]


@cache
def disorder(above: tuple[Node, ...], under: tuple[Node, ...]) -> float:
    """How hard the lines between two floors are to follow: crossings above all, then how far they lean."""
    upper, lower = doorways(above), doorways(under)
    lines = sorted(ends(upper[a], lower[b]) for a, b in links_down(above[0][1]))
    crossings, ended = 0, list[float]()
    for _, end in lines:
        at = bisect_right(ended, end)
        crossings += len(ended) - at
        ended.insert(at, end)
    return 1000 * crossings + sum(abs(a - b) for a, b in lines)


def arranged() -> list[tuple[Node, ...]]:
    """The floors from the ground up, in the best order that is found from a number of random ones."""
    nodes = dict.fromkeys(node for link in links() for node in link)
    order = [[n for n in nodes if n[1] == floor] for floor in range(1 + max(floors().values()))]
    chance = random.Random(0)
    found = []
    for _ in range(STARTS):
        for floor in order:
            chance.shuffle(floor)
        found.append(_improved([tuple(floor) for floor in order]))
    return min(found, key=lambda order: round(sum(disorder(b, a) for a, b in pairwise(order)), 3))


def _improved(order: list[tuple[Node, ...]]) -> list[tuple[Node, ...]]:
    """One node of one floor moves at a time, as long as that makes the lines easier to follow."""
    before = None
    while order != before:
        before = list(order)
        for floor in (*range(len(order)), *reversed(range(len(order)))):
            under, above = order[max(floor - 1, 0) : floor], order[floor + 1 : floor + 2]
            order[floor] = min(_moves(order[floor]), key=partial(_cost, under, above))
    return order


def _cost(under: Sequence[tuple[Node, ...]], above: Sequence[tuple[Node, ...]], floor: tuple[Node, ...]) -> float:
    return round(sum(disorder(floor, other) for other in under) + sum(disorder(other, floor) for other in above), 3)


def _moves(floor: tuple[Node, ...]) -> Iterator[tuple[Node, ...]]:
    yield floor
    for k, node in enumerate(floor):
        others = floor[:k] + floor[k + 1 :]
        yield from ((*others[:to], node, *others[to:]) for to in range(len(floor)) if to != k)


def drawn() -> str:
    """The picture as SVG."""
    order = arranged()
    spans = {node: span for floor in order for node, span in placed(floor).items()}
    doors = {node: door for floor in order for node, door in doorways(floor).items()}
    lines = {n: lines_of(n, right - left) for n, (left, right) in spans.items() if is_room(n)}
    top, tops, heights = MARGIN, dict[int, float](), dict[int, float]()
    for floor in reversed(range(len(order))):
        most = max(len(lines[node]) for node in order[floor] if is_room(node))
        tops[floor], heights[floor] = top, 2 * PADDING + TITLE_PX + LINE * most
        leans = [abs(start - end) for start, end in (ends(doors[a], doors[b]) for a, b in links_down(floor))]
        top += heights[floor] + (WIDE if max(leans, default=0) > LEAN else NARROW)
    parts = []
    for above, under in links():
        start, end = ends(doors[above], doors[under])
        parts += _line(start, tops[above[1]] + heights[above[1]], end, tops[under[1]], pointed=is_room(under))
    for node, (left, right) in spans.items():
        y, height = tops[node[1]], heights[node[1]]
        if is_room(node):
            parts += _room(node[0], lines[node], left, y, right - left, height)
        else:
            x = (left + right) / 2
            parts.append(f'<path class="line" d="M{x:.1f} {y:.1f}V{y + height:.1f}"/>')
    parts += _legend(top - 8)
    size = f'viewBox="0 0 {WIDTH:.0f} {top + 18:.0f}"'
    about = f"The {len(ROOMS)} rooms of the package on {len(order)} floors; lines lead down to what is imported."
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{about}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _line(x1: float, y1: float, x2: float, y2: float, *, pointed: bool) -> Iterator[str]:
    to = y2 - 7 if pointed else y2
    middle = (y1 + to) / 2
    way = f"V{to:.1f}" if x1 == x2 else f"C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {to:.1f}"
    yield f'<path class="line" d="M{x1:.1f} {y1:.1f}{way}"/>'
    if pointed:
        yield f'<path class="head" d="M{x2 - 4:.1f} {to:.1f}h8l-4 7z"/>'


def _room(room: str, lines: Sequence[str], x: float, y: float, width: float, height: float) -> Iterator[str]:
    kind = room.partition(".")[0] if room.partition(".")[0] in ("passes", "hwprofiles") else "edgeprune"
    yield f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5"/>'
    first = y + PADDING + TITLE_PX - 2
    yield f'<text class="title" x="{x + PADDING:.1f}" y="{first:.1f}">{escape(name(room))}</text>'
    yield f'<text class="files" x="{x + width - PADDING:.1f}" y="{first:.1f}">{files(room)}</text>'
    for k, said in enumerate(lines, 1):
        yield f'<text x="{x + PADDING:.1f}" y="{first + LINE * k:.1f}">{escape(said)}</text>'


def _legend(y: float) -> Iterator[str]:
    x = MARGIN
    for folder in ("edgeprune", "passes", "hwprofiles"):
        yield f'<rect class="{folder}" x="{x:.1f}" y="{y:.1f}" width="14" height="12" rx="3"/>'
        yield _said(x + 20, y, f"in {folder}/")
        x += 48 + text_px(f"in {folder}/", TEXT_PX)
    yield from _line(x + 4, y - 4, x + 4, y + 16, pointed=True)
    yield _said(x + 14, y, "imports")
    yield _said(x + 84, y, "a number: how many Python files")


def _said(x: float, y: float, said: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 10.5:.1f}">{escape(said)}</text>'


def main(arguments: Sequence[str]) -> None:
    """Write the picture, or check the one that is there."""
    if list(arguments) not in ([], ["--check"]):
        sys.exit("usage: python docs/pictures/rooms.py [--check]")
    if not arguments:
        FILE.write_text(drawn(), encoding="utf-8")
    elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != drawn():
        sys.exit(f"docs/pictures/{FILE.name} is stale: run `python docs/pictures/rooms.py`")


if __name__ == "__main__":
    main(sys.argv[1:])
