"""Measure one network on this computer with Q/DQ pairs placed in four ways, and draw it: qdq.svg.

usage: python docs/pictures/qdq.py [SECONDS]
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import chart
import numpy as np
import onnx
from onnxruntime import quantization

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.dependency.solve import analyse
from edgeprune.graph import model_io as graph
from edgeprune.latency.block_network import network
from edgeprune.latency.cpu_model import observed_ranges
from edgeprune.latency.formats import CORE, INT8
from edgeprune.passes.x86.quantize_x86 import quantize_x86
from edgeprune.support.processor import this_cpu
from edgeprune.testing.oracle import parse
from edgeprune.timing.protocol import Measurement, benchmark

BLOCKS, CHANNELS, SIZE = 4, 64, 40
FLOAT = "float32"


def network_text() -> str:
    """Convolutions with SiLU, as in YOLO: the sigmoid and the product have integer kernels too."""
    head = f"g (float[1, {CHANNELS}, {SIZE}, {SIZE}] x0) => (float[1, {CHANNELS}, {SIZE}, {SIZE}] x{BLOCKS}) {{"
    blocks = (
        f"c{k} = Conv<pads = [1, 1, 1, 1]>(x{k}, w{k}) s{k} = Sigmoid(c{k}) x{k + 1} = Mul(c{k}, s{k})"
        for k in range(BLOCKS)
    )
    return "\n".join([head, *blocks, "}"])


def placements(folder: Path) -> dict[str, bytes]:
    """Name -> model."""
    model = parse(network_text(), **{f"w{k}": (CHANNELS, CHANNELS, 3, 3) for k in range(BLOCKS)})
    feeds = {"x0": np.random.default_rng(0).standard_normal((1, CHANNELS, SIZE, SIZE)).astype(np.float32)}
    graph.save(model, folder / "float.onnx")
    found = {FLOAT: graph.to_bytes(model)}
    for name, kind in (
        ("all of it, signed", quantization.QuantType.QInt8),
        ("all of it, unsigned", quantization.QuantType.QUInt8),
    ):
        reader = iter([feeds, None])
        source = type("Reader", (quantization.CalibrationDataReader,), {"get_next": lambda _, r=reader: next(r)})()
        quantization.quantize_static(
            folder / "float.onnx", folder / "out.onnx", source, activation_type=kind, per_channel=True
        )
        found[f"{name} (onnxruntime's tool)"] = onnx.load(folder / "out.onnx").SerializeToString()
    net = network(model, analyse(model))
    ranges = observed_ranges(net, feeds)
    for name, form in (("all of it, unsigned", INT8), ("convolutions alone, unsigned", CORE)):
        nodes = {n for forms in net.int8_nodes for n in forms.get(form, forms.get(INT8, frozenset()))}
        found[f"{name} (edgeprune)"] = graph.to_bytes(quantize_x86(model, nodes, ranges))
    return found


def draw(measured: Mapping[str, Measurement]) -> None:
    """Bars with intervals."""
    left, width, row = 320, 380, 44
    most = 1.08 * max(m.ci_high_ms for m in measured.values())
    parts = []
    for k, (name, m) in enumerate(measured.items()):
        y = chart.TOP + k * row
        kind = "c2" if name == FLOAT else "c1"
        parts.append(chart.text(left - 10, y + 19, name, "end"))
        parts.append(
            f'<rect class="bar {kind}" x="{left}" y="{y}" height="26" width="{width * m.median_ms / most:.1f}"/>'
        )
        low, high = (left + width * ms / most for ms in (m.ci_low_ms, m.ci_high_ms))
        parts.append(chart.line("interval", low, y + 13, high, y + 13))
        parts.append(chart.text(left + width + 8, y + 19, f"{m.median_ms:.2f} ms"))
    title = f"{BLOCKS} convolutions with SiLU on one thread of {this_cpu().name}: medians and 95% intervals"
    chart.write("qdq.svg", title, parts, width=left + width + 90, height=chart.TOP + row * len(measured) + 10)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as place:
        models = placements(Path(place))
    runners = {name: OnnxRuntime(threads=1).load(model) for name, model in models.items()}
    candidates = {name: runner.bind(runner.random_feeds()) for name, runner in runners.items()}
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    draw(benchmark(candidates, min_seconds=0, max_seconds=seconds))
