"""Peak memory of `inspect` and `prune` on a model with more than 2 GB of external weights.

The weights are mapped, not read. So `inspect` should need little more memory than for a small model, and `prune` at
most 1.3 times the bytes of the weights that it uses. Memory is the largest resident set of the whole process as the
system counts it, with mapped pages.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

WIDTH = 4096
HIDDEN = 16384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.4, help="of weights; three times as much disk is needed")
    parser.add_argument("--folder", type=Path, help="where to write [default: a temporary folder]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        small, large = folder / "small.onnx", folder / "large.onnx"
        write_model(small, 1, hidden=64)
        weight_bytes = write_model(large, max(1, round(options.gigabytes * 1e9 / (8 * WIDTH * HIDDEN))))
        print(f"weights: {weight_bytes / 1e9:.2f} GB in {large.name}.data")
        print(f"{'command':10} {'seconds':>8} {'peak MB':>9} {'small model':>12} {'of weights':>11}")
        for command, more in (("inspect", ()), ("prune", ("--ratio", "0.5", "--no-compensate"))):
            floor_bytes, _ = measured(command, small, more)
            peak_bytes, seconds = measured(command, large, more)
            print(
                f"{command:10} {seconds:8.1f} {peak_bytes / 1e6:9.0f} {floor_bytes / 1e6:12.0f} "
                f"{(peak_bytes - floor_bytes) / weight_bytes:10.2f}x",
                flush=True,
            )


def write_model(path: Path, blocks: int, *, hidden: int = HIDDEN) -> int:
    """A chain of residual perceptrons with random weights in an external file; returns the weights' bytes."""
    generator = np.random.default_rng(0)
    nodes, tensors, offset, stream = [], [], 0, "x"
    with open(f"{path}.data", "wb") as file:

        def weight(name: str, shape: Sequence[int]) -> None:
            nonlocal offset
            tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            length = 0
            for _ in range(shape[0]):
                length += file.write((generator.standard_normal(shape[1], np.float32) / 64).tobytes())
            for key, value in (("location", f"{path.name}.data"), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            offset += length

        for k in range(blocks):
            weight(f"up{k}", (WIDTH, hidden))
            weight(f"down{k}", (hidden, WIDTH))
            nodes += [
                helper.make_node("MatMul", [stream, f"up{k}"], [f"wide{k}"]),
                helper.make_node("Relu", [f"wide{k}"], [f"active{k}"]),
                helper.make_node("MatMul", [f"active{k}", f"down{k}"], [f"narrow{k}"]),
                helper.make_node("Add", [stream, f"narrow{k}"], [f"stream{k}"]),
            ]
            stream = f"stream{k}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in ("x", stream)]
    graph = helper.make_graph(nodes, "perceptrons", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return offset


def measured(command: str, model: Path, more: Sequence[str]) -> tuple[int, float]:
    """Largest resident set in bytes, and seconds, of one run of the command line."""
    program = [sys.executable, "-m", "edgeprune", command, str(model), *more]
    if command == "prune":
        program += ["-o", str(model.with_suffix(".pruned")), "--force"]
    start = time.perf_counter()
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"edgeprune {command} ended with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024, time.perf_counter() - start


if __name__ == "__main__":
    main()
