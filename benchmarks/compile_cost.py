"""What `edgeprune compile` takes, from small to large networks: processor time, peak memory and temporary files.

Each model is compiled in a process and a cache of its own. What was announced before the long steps is printed beside
what was used. Weights and calibration data may be random: the cost does not depend on them, the accuracy does.

    python benchmarks/compile_cost.py yolov8n.onnx yolov8s.onnx yolov8m.onnx --target orin --speedup 3
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="ONNX files, from small to large")
    parser.add_argument("--target", default="orin")
    parser.add_argument("--speedup", default="3", help="budget of every compile; one that can be met only by a cut")
    parser.add_argument("--calib", default="random", help="calibration data of all models")
    options = parser.parse_args()
    costs = {}
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            costs[model.stem] = compiled(model, options, Path(folder))
        print(f"{model.stem}: {in_words(costs[model.stem])}", flush=True)
    print_steps(costs)


def compiled(model: Path, options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """The key ``cost`` of the report of one compile."""
    command = [sys.executable, "-m", "edgeprune", "compile", str(model), "--target", options.target]
    command += ["--speedup", options.speedup, "--calib", options.calib, "--accept-loss", "-o", str(folder / "out")]
    environment = os.environ | {"EDGEPRUNE_CACHE": str(folder / "cache")}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, object] = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))["cost"]
    return found


def in_words(cost: dict[str, object]) -> str:
    """What was used, and in brackets what was announced."""
    used, expected = cost["used"], cost["expected"]
    parts = [f"{used['processor_s']:.0f} s ({expected['processor_s']:.0f})"]
    for key, name in (("memory_bytes", "memory"), ("temporary_bytes", "temporary files")):
        parts.append(f"{used[key] / 1e9:.2f} GB ({expected[key] / 1e9:.2f}) of {name}")
    return ", ".join(parts)


def print_steps(costs: dict[str, dict[str, object]]) -> None:
    """Processor seconds of each step, a column for each model."""
    steps = dict.fromkeys(step for cost in costs.values() for step in cost["processor_s"])
    print(f"\n{'processor seconds':40}" + "".join(f"{name:>12}" for name in costs))
    for step in steps:
        found = [cost["processor_s"].get(step, 0.0) for cost in costs.values()]
        if max(found) >= 1:
            print(f"{step:40}" + "".join(f"{s:12.1f}" for s in found))


if __name__ == "__main__":
    main()
