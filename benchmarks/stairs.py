"""The stairs of this processor's runtimes: the latency of two convolutions by the number of channels between them.

    python benchmarks/stairs.py [--seconds 20] [--widths 8 12 ...]

Each row is a runtime and a format, each column a width; all widths of a row are timed in turns on one thread. Where a
vector or a tile is full, the latency rises with the next channel: these are the widths that a cut should end at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import onnx_ir as ir

from edgeprune.backends import CpuRuntime, OnnxRuntime, OpenVino, openvino_is_installed
from edgeprune.latency import X86, Lowering, openvino_lowering
from edgeprune.support import this_cpu
from edgeprune.testing import parse
from edgeprune.timing import benchmark

CHANNELS, SIDE = 64, 20
RANGE = (0.0, 6.0)


def network(width: int) -> ir.Model:
    """Two 3x3 convolutions with Relu, and ``width`` channels between them."""
    text = f"""g (float[1, {CHANNELS}, {SIDE}, {SIDE}] x) => (float[1, {CHANNELS}, {SIDE}, {SIDE}] y) {{
      a = Conv<pads=[1, 1, 1, 1]>(x, w)
      r = Relu(a)
      b = Conv<pads=[1, 1, 1, 1]>(r, v)
      y = Relu(b)
    }}"""
    model = parse(text, w=(width, CHANNELS, 3, 3), v=(CHANNELS, width, 3, 3))
    for i, node in enumerate(model.graph):
        node.name = f"{node.op_type} {i}"
    return model


def rows() -> Iterator[tuple[str, CpuRuntime, Lowering, bool]]:
    """Name, runtime, lowering, and whether the convolutions are in INT8."""
    kinds: list[tuple[CpuRuntime, Lowering]] = [(OnnxRuntime(1), X86)]
    if openvino_is_installed():
        openvino = OpenVino(1)
        kinds += [(openvino, openvino_lowering(precision)) for precision in openvino.float_precisions]
    for runtime, lowering in kinds:
        yield f"{runtime.name} {lowering.float_format}", runtime, lowering, False
        if lowering is X86 or lowering is kinds[-1][1]:
            yield f"{runtime.name} int8", runtime, lowering, True


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="the longest measurement of a row")
    parser.add_argument("--widths", type=int, nargs="+", default=list(range(8, 73, 4)))
    arguments = parser.parse_args()
    print(f"{this_cpu()}, one thread, microseconds")
    print(f"{'channels between the convolutions':34s}" + "".join(f"{w:6d}" for w in arguments.widths))
    for name, runtime, lowering, int8 in rows():
        runs = {}
        for width in arguments.widths:
            model = network(width)
            nodes = [n for n, verdict in lowering.int8_eligible(model).items() if verdict] if int8 else []
            ranges = dict.fromkeys(lowering.values_to_quantize(model, nodes), RANGE)
            loaded = runtime.load(lowering.lowered(model, nodes, ranges))
            runs[str(width)] = loaded.bind(loaded.random_feeds())
        found = benchmark(runs, min_seconds=0.0, max_seconds=arguments.seconds)
        print(f"{name:34s}" + "".join(f"{1e3 * found[str(w)].median_ms:6.0f}" for w in arguments.widths), flush=True)


if __name__ == "__main__":
    main()
