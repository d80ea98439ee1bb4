"""Analyse a small network and draw it with its groups: docs/pictures/groups.svg.

usage: python docs/pictures/groups.py
"""

from __future__ import annotations

from pathlib import Path

from edgeprune.dependency.graph_drawing import picture
from edgeprune.dependency.solve import analyse
from edgeprune.report.graph_view import draw
from edgeprune.testing.oracle import parse

STYLE = """
  text { font: 11px system-ui, sans-serif; fill: #1c2128; text-anchor: middle } path { fill: none; stroke: #7a8592 }
  .edge { fill: none; stroke: #5b6672 }
"""
NETWORK = """
g (float[1, 3, 32, 32] image) => (float[1, 10] scores) {
  [stem] a = Conv<pads = [1, 1, 1, 1]>(image, w_stem)
  [inner] b = Conv<pads = [1, 1, 1, 1]>(a, w_inner)
  [relu] c = Relu(b)
  [outer] d = Conv<pads = [1, 1, 1, 1]>(c, w_outer)
  [residual] e = Add(a, d)
  [branch] f = Conv(e, w_branch)
  [concat] h = Concat<axis = 1>(e, f)
  [pool] p = GlobalAveragePool(h)
  [flatten] q = Flatten(p)
  [head] scores = Gemm<transB = 1>(q, w_head)
}
"""
WEIGHTS = {
    "w_stem": (16, 3, 3, 3),
    "w_inner": (32, 16, 3, 3),
    "w_outer": (16, 32, 3, 3),
    "w_branch": (24, 16, 1, 1),
    "w_head": (10, 40),
}

if __name__ == "__main__":
    drawn = picture(analyse(parse(NETWORK, **WEIGHTS)))
    alt = f"A residual network of {len(drawn.boxes)} nodes; {len(drawn.groups)} groups in their colours."
    svg = draw(drawn, {}, alt).replace("\n", f"\n<style>{STYLE}</style>\n", 1)
    (Path(__file__).parent / "groups.svg").write_text(svg + "\n", encoding="utf-8")
