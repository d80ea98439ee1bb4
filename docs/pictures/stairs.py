"""Draw how a convolution's latency depends on its width on a Jetson, by its analytic profile: stairs.svg.

usage: python docs/pictures/stairs.py [TARGET]
"""

from __future__ import annotations

import sys

import chart

from edgeprune.costmodel.prediction import model_latency_us
from edgeprune.devices.targets import Profile, load_profile
from edgeprune.testing.oracle import parse

WIDTHS = range(16, 257, 2)


def predicted_us(width: int, profile: Profile, precision: str) -> float:
    """A 3x3 convolution of 256 channels to ``width`` on a map of 40x40, inside a network of three of them."""
    model = parse(
        """g (float[1, 256, 40, 40] x) => (float[1, 256, 40, 40] y) {
            h = Conv<pads = [1, 1, 1, 1]>(x, w1) r = Relu(h) y = Conv<pads = [1, 1, 1, 1]>(r, w2) }""",
        w1=(width, 256, 3, 3),
        w2=(256, width, 3, 3),
    )
    return model_latency_us(model, profile, precision).latency_ms * 1e3


def main(target: str) -> None:
    """Draw two precisions."""
    profile = load_profile(target)
    curves = {p: [predicted_us(w, profile, p) for w in WIDTHS] for p in ("fp16", "int8")}
    top_us = 1.05 * max(map(max, curves.values()))

    def x(width: float) -> float:
        return chart.LEFT + chart.WIDTH * (width - WIDTHS[0]) / (WIDTHS[-1] - WIDTHS[0])

    def y(us: float) -> float:
        return chart.TOP + chart.HEIGHT * (1 - us / top_us)

    parts = []
    for step in range(5):
        us = top_us * step / 4.2
        parts.append(chart.line("grid", chart.LEFT, y(us), chart.LEFT + chart.WIDTH, y(us)))
        parts.append(chart.text(chart.LEFT - 8, y(us) + 4, f"{us:.0f} us", "end"))
    marks = range(32, 257, 32)
    parts += [chart.text(x(width), chart.TOP + chart.HEIGHT + 20, str(width), "middle") for width in marks]
    below = chart.TOP + chart.HEIGHT + 42
    parts.append(chart.text(chart.LEFT + chart.WIDTH / 2, below, "channels between two convolutions", "middle"))
    for kind, (precision, times) in zip(("c1", "c2"), curves.items(), strict=True):
        points = " ".join(f"{x(w):.1f},{y(us):.1f}" for w, us in zip(WIDTHS, times, strict=True))
        parts.append(f'<polyline class="line {kind}" points="{points}"/>')
        parts.append(chart.text(x(WIDTHS[-1]) - 4, y(times[-1]) - 8, precision, "end"))
    error = "" if profile.error is None else f", typical error {profile.error.median:.0%}"
    title = f"Two 3x3 convolutions, 256 to n to 256, 40x40, on {profile.title}: predicted{error}"
    chart.write("stairs.svg", title, parts, height=chart.TOP + chart.HEIGHT + 55)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "orin-nano-8")
