"""Time of the analysis for graphs of up to 100,000 nodes, and time of the whole `inspect` process.

Transformers and convolutional networks with more and more small blocks are made in memory; the processor seconds per
node should stay the same. Then `edgeprune inspect` runs on a transformer of 1,000 nodes and on the given ONNX files.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune import graph
from edgeprune.dependency import analyse, inspection_of
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.testing import Builder

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
TOKENS, WIDTH, HEADS = 4, 8, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=Path, help="ONNX files to inspect")
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, metavar="NODES", help="of the graphs made")
    parser.add_argument("--rounds", type=int, default=5, help="of every whole-process measurement")
    options = parser.parse_args()
    for name, make in (("transformer", transformer), ("convolutional", convolutional)):
        print(f"\n{name:13} {'nodes':>7} {'canonicalize':>13} {'analyse':>9} {'inspect':>9} {'analysis per node':>18}")
        for nodes in options.sizes:
            print_growth(make(nodes))
    print(f"\n{'inspect, whole process':34} {'nodes':>7} {'median s':>9} {'least s':>9}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "transformer of 1,000 nodes"
        onnx.save(transformer(1_000), path)
        for model in (path, *options.models):
            print_whole(model, options.rounds)


def transformer(nodes: int) -> onnx.ModelProto:
    """Blocks of pre-norm attention with a fused projection and a perceptron, about ``nodes`` nodes."""
    b = Builder(np.random.default_rng(0))
    x = b.linear(b.input((1, TOKENS, 3)), WIDTH)
    while len(b.nodes) < nodes:
        qkv = b.linear(norm(b, x), 3 * WIDTH)
        split = b.transpose(b.reshape(qkv, 1, TOKENS, 3, HEADS, WIDTH // HEADS), 2, 0, 3, 1, 4)
        shape = b.shape[split][1:]
        q, k, v = (b.op("Gather", split, b.constant(np.int64(i)), shape=shape, axis=0) for i in range(3))
        scores = b.op(
            "MatMul", b.op("Mul", q, b.constant(0.5)), b.transpose(k, 0, 1, 3, 2), shape=(1, HEADS, TOKENS, TOKENS)
        )
        mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v, shape=shape)
        joined = b.reshape(b.transpose(mixed, 0, 2, 1, 3), 1, TOKENS, WIDTH)
        x = b.op("Add", x, b.linear(joined, WIDTH))
        x = b.op("Add", x, b.linear(b.op("Relu", b.linear(norm(b, x), 2 * WIDTH)), WIDTH))
    return b.model([b.linear(norm(b, x), 3)])


def norm(b: Builder, x: str) -> str:
    """A LayerNormalization."""
    return b.op("LayerNormalization", x, b.weight(WIDTH, offset=1.0), b.weight(WIDTH), axis=-1)


def convolutional(nodes: int) -> onnx.ModelProto:
    """Blocks with Split, depthwise convolution, squeeze-and-excite, Concat and Add, about ``nodes`` nodes."""
    b = Builder(np.random.default_rng(0))
    x = b.conv(b.input((1, 3, 4, 4)), WIDTH)
    half = (1, WIDTH // 2, 4, 4)
    while len(b.nodes) < nodes:
        first, second = b.several("Split", [x, b.constant([WIDTH // 2] * 2)], [half, half], axis=1)
        wide = b.op("Relu", b.conv(second, WIDTH))
        deep = b.op("Relu", b.conv(wide, WIDTH, kernel=3, group=WIDTH))
        gate = b.op("Sigmoid", b.conv(b.op("GlobalAveragePool", deep, shape=(1, WIDTH, 1, 1)), WIDTH))
        back = b.conv(b.op("Mul", deep, gate), WIDTH // 2)
        x = b.op("Add", x, b.op("Concat", first, back, shape=(1, WIDTH, 4, 4), axis=1))
    return b.model([b.conv(x, 3)])


def print_growth(proto: onnx.ModelProto) -> None:
    """Print one line: seconds of each step."""
    model = ir.serde.deserialize_model(proto)
    canonical, canonicalized = timed(lambda: canonicalize(model, verify=False))
    analysis, analysed = timed(lambda: analyse(canonical))
    _, inspected = timed(lambda: inspection_of(canonical, analysis, "model"))
    nodes = len(analysis.relations.nodes)
    print(
        f"{'':13} {nodes:7,} {canonicalized:11.2f} s {analysed:7.2f} s {inspected:7.2f} s "
        f"{1e6 * analysed / nodes:15.0f} us",
        flush=True,
    )


def timed(call: Callable[[], object]) -> tuple[object, float]:
    """A result, and its processor seconds."""
    gc.collect()
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def print_whole(path: Path, rounds: int) -> None:
    """Print one line: seconds of `edgeprune inspect`, from start to end of the process."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "edgeprune", "inspect", str(path)], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    nodes = sum(1 for _ in graph.load(path).graph)
    print(f"{path.stem[:34]:34} {nodes:7,} {statistics.median(seconds):9.2f} {min(seconds):9.2f}", flush=True)


if __name__ == "__main__":
    main()
