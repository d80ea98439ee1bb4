"""Measure how a convolution's latency depends on its width on this computer, and draw it: docs/pictures/staircase.svg.

usage: python docs/pictures/staircase.py [SECONDS]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import onnx.parser

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.support.processor import this_cpu
from edgeprune.timing.protocol import Measurement, benchmark

WIDTHS = range(64, 129, 4)
LEFT, TOP, WIDTH, HEIGHT = 70, 40, 560, 260
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #57606a } .line { fill: none; stroke: #2f6fdf; stroke-width: 2 }
  .dot { fill: #2f6fdf } .interval { stroke: #2f6fdf; opacity: .5 } .axis { stroke: #8c959f; opacity: .5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 } .line, .interval { stroke: #6ea3ff } .dot { fill: #6ea3ff } }
"""


def convolution(width: int) -> bytes:
    """A 3x3 convolution of 128 channels to ``width``, on a map of 28x28, as a serialized model."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, 128, 28, 28] x) => (float[1, {width}, 28, 28] y)
    {{ shape = Constant<value_ints = [{width}, 128, 3, 3]>()
       w = ConstantOfShape<value = float[1] {{0.01}}>(shape)
       y = Conv<pads = [1, 1, 1, 1]>(x, w) }}"""
    return onnx.parser.parse_model(text).SerializeToString()


def measure(seconds: float) -> dict[int, Measurement]:
    """Width -> latency on one thread, all widths in turns."""
    runners = {width: OnnxRuntime(threads=1).load(convolution(width)) for width in WIDTHS}
    candidates = {str(width): runner.bind(runner.random_feeds()) for width, runner in runners.items()}
    return {int(name): m for name, m in benchmark(candidates, min_seconds=0, max_seconds=seconds).items()}


def draw(measured: Mapping[int, Measurement]) -> str:
    """The chart as SVG: median and 95% interval by width."""
    top_ms = 1.05 * max(m.ci_high_ms for m in measured.values())

    def x(width: float) -> float:
        return LEFT + WIDTH * (width - WIDTHS[0]) / (WIDTHS[-1] - WIDTHS[0])

    def y(ms: float) -> float:
        return TOP + HEIGHT * (1 - ms / top_ms)

    parts = [
        f'<text x="{LEFT}" y="20">3x3 convolution, 128 channels in, 28x28, fp32, one thread of {this_cpu().name}</text>'
    ]
    for step in range(5):
        ms = top_ms * step / 4.2
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(ms):.1f}" y2="{y(ms):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(ms) + 4:.1f}" text-anchor="end">{ms:.2f} ms</text>')
    parts += [
        f'<text x="{x(width):.1f}" y="{TOP + HEIGHT + 20}" text-anchor="middle">{width}</text>' for width in WIDTHS[::4]
    ]
    parts.append(f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 42}" text-anchor="middle">channels out</text>')
    points = " ".join(f"{x(width):.1f},{y(m.median_ms):.1f}" for width, m in measured.items())
    parts.append(f'<polyline class="line" points="{points}"/>')
    for width, m in measured.items():
        at = f"{x(width):.1f}"
        parts.append(
            f'<line class="interval" x1="{at}" x2="{at}" y1="{y(m.ci_low_ms):.1f}" y2="{y(m.ci_high_ms):.1f}"/>'
        )
        parts.append(f'<circle class="dot" cx="{at}" cy="{y(m.median_ms):.1f}" r="3.5"/>')
    size = f'viewBox="0 0 {LEFT + WIDTH + 30} {TOP + HEIGHT + 55}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n<style>{STYLE}</style>\n{body}\n</svg>\n'


if __name__ == "__main__":
    figure = draw(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 120.0))
    (Path(__file__).parent / "staircase.svg").write_text(figure, encoding="utf-8")
