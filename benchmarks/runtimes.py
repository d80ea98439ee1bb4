"""The runtimes of a CPU: onnxruntime and OpenVINO as they come, NNCF, and ours, all timed in one run.

    python benchmarks/runtimes.py MODEL.onnx --calib SRC [--eval SRC] [--ours FOLDER...]

``--ours`` are folders that ``edgeprune compile`` wrote for this model; each runs in the runtime of its report. Every
row has its latency and its speed over onnxruntime in FP32, timed in turns with all others; the error of its outputs
against the original on the calibration data; its score, with ``--eval``; and for ours the predicted latency over the
measured one. The predicted latency is scaled by the original's latency, then and now, because the machine may have been
slower. The rows:

    onnxruntime fp32     the original
    openvino fp32        the original, with float32 stated
    openvino as it comes the original with no setting but latency and threads: BF16 where the processor has it
    nncf int8            NNCF's post-training quantization of the OpenVINO model, with its own settings for the kind of
                         network, run by OpenVINO in its default type

The first line says whether the processor has AMX: with it, BF16 and INT8 gain more.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune import graph
from edgeprune.backends import LoadedModel, OnnxRuntime, OpenVino
from edgeprune.calibration import Calibration, open_calibration, open_evaluation
from edgeprune.passes.openvino import state_precision
from edgeprune.report import Report
from edgeprune.support import describe_failure, this_cpu
from edgeprune.timing import benchmark, ratio

ERROR_SAMPLES = 16


@dataclass(frozen=True)
class Row:
    """One way to run the model, or the reason why it does not run.

    Attributes:
        name: of the row.
        latency_ms: median.
        speedup: over onnxruntime in FP32.
        error: of the outputs, relative to their norm; of the output that is worst.
        score: by the evaluation.
        predicted: predicted latency over the measured one.
        failure: why it does not run.
    """

    name: str
    latency_ms: float | None = None
    speedup: float | None = None
    error: float | None = None
    score: float | None = None
    predicted: float | None = None
    failure: str = ""


def nncf_int8(model: Path, data: Calibration, *, transformer: bool) -> Any:
    """The OpenVINO model that NNCF quantizes."""
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    samples = [dict(feeds) for feeds in data.batches(1)]
    kind = {"model_type": nncf.ModelType.TRANSFORMER} if transformer else {}
    return nncf.quantize(ov.Core().read_model(model), nncf.Dataset(samples), subset_size=len(samples), **kind)


def identity(model: Path, data: Calibration) -> str:
    """A short hash of all that NNCF's result depends on: the model, the samples and NNCF's version."""
    found = hashlib.sha256(graph.to_bytes(graph.load(model)))
    for feeds in data.batches(1):
        for name in sorted(feeds):
            found.update(np.ascontiguousarray(feeds[name]).tobytes())
    found.update(_version("nncf").encode())
    return found.hexdigest()[:12]


def candidates(arguments: argparse.Namespace, data: Calibration) -> dict[str, Callable[[], LoadedModel]]:
    """Name of a row -> what loads its model."""
    ort, ov, model = OnnxRuntime(arguments.threads), OpenVino(arguments.threads), arguments.model
    original = graph.load(model)
    transformer = any(node.op_type in ("Softmax", "Attention") for node in original.graph) and any(
        node.op_type == "LayerNormalization" or node.op_type == "ReduceMean" for node in original.graph
    )

    def nncf() -> LoadedModel:
        import openvino

        with tempfile.TemporaryDirectory() as folder:
            file = Path(arguments.keep or folder) / f"{model.stem}-{identity(model, data)}.nncf.xml"
            if not file.is_file():
                openvino.save_model(nncf_int8(model, data, transformer=transformer), file, compress_to_fp16=False)
            loaded = ov.load(file)
            loaded.run(next(iter(data.batches(1))))  # reads the weights before the folder is deleted
            return loaded

    found: dict[str, Callable[[], LoadedModel]] = {
        "onnxruntime fp32": lambda: ort.load(model),
        "openvino fp32": lambda: ov.load(state_precision(original, "fp32")),
        "openvino as it comes": lambda: ov.load(model),
        "nncf int8": nncf,
    }
    for folder in arguments.ours:
        file = Path(folder) / "model.onnx"
        runtime: Any = ov if _runtime_of(Path(folder)).startswith(ov.name) else ort
        found[f"ours {Path(folder).name} ({runtime.name})"] = lambda runtime=runtime, file=file: runtime.load(file)
    return found


def compare(arguments: argparse.Namespace) -> list[Row]:
    """Make, time and score everything."""
    original = graph.load(arguments.model)
    data = open_calibration(arguments.calib, original, limit=arguments.samples)
    evaluation = open_evaluation(arguments.eval, original) if arguments.eval else None
    runs: dict[str, Callable[[], object]] = {}
    failures: dict[str, str] = {}
    errors: dict[str, float] = {}
    scores: dict[str, float] = {}
    feeds = {name: np.ascontiguousarray(x) for name, x in next(iter(data.batches(1))).items()}
    wanted: list[list[Any]] = []

    def failure_of(name: str, load: Callable[[], LoadedModel]) -> str:
        """Load, score and bind a model; empty if it runs."""
        nonlocal wanted
        try:
            model = load()
            found = [model.run(dict(f)) for f, _ in zip(data.batches(1), range(ERROR_SAMPLES), strict=False)]
            wanted = wanted or found
            errors[name] = output_error(found, wanted)
            if evaluation is not None:
                scores[name] = evaluation.score(model.run).value
            runs[name] = model.bind(feeds)
        except ImportError as error:
            return f"{error.name} is not installed"
        except Exception as error:  # any error of a peer is its result
            return describe_failure(error)[:100]
        return ""

    for name, load in candidates(arguments, data).items():
        failures[name] = failure_of(name, load)
    measured = benchmark(runs, min_seconds=5.0, max_seconds=arguments.seconds)
    first = measured["onnxruntime fp32"]
    rows = []
    for name in runs:
        mine, predicted = measured[name], None
        folder = next((f for f in arguments.ours if name.startswith(f"ours {Path(f).name} (")), None)
        if folder is not None and (known := Report.load(folder)).predicted and known.latency:
            predicted = known.predicted.result_ms * first.median_ms / known.latency.baseline.median_ms / mine.median_ms
        speedup = ratio(first, mine).value
        rows.append(Row(name, mine.median_ms, speedup, errors[name], scores.get(name), predicted))
    return rows + [Row(name, failure=why) for name, why in failures.items() if why]


def output_error(found: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]]) -> float:
    """Norm of the difference over the norm of the wanted values, for the worst output, over all samples."""
    worst = 0.0
    for mine, right in zip(zip(*found, strict=True), zip(*wanted, strict=True), strict=True):
        pairs = [(np.asarray(m, np.float64), np.asarray(r, np.float64)) for m, r in zip(mine, right, strict=True)]
        difference = sum(float(np.square(m - r).sum()) for m, r in pairs)
        worst = max(worst, (difference / max(sum(float(np.square(r).sum()) for _, r in pairs), 1e-30)) ** 0.5)
    return worst


def show(rows: Sequence[Row], metric: str) -> None:
    """Print the table, and how each of ours stands against the best of the others."""
    print(f"{'':44s} {'latency ms':>10s} {'speed':>7s} {'error':>9s} {metric:>20s} {'predicted/measured':>19s}")
    for row in rows:
        if row.latency_ms is None:
            print(f"{row.name:44s} fails: {row.failure}")
            continue
        score = "" if row.score is None else f"{row.score:.2f}"
        predicted = "" if row.predicted is None else f"{row.predicted:.2f}"
        print(
            f"{row.name:44s} {row.latency_ms:10.3f} {row.speedup:6.2f}x {row.error:9.2e} {score:>20s} {predicted:>19s}"
        )
    peers = [row for row in rows if row.latency_ms is not None and not row.name.startswith("ours")]
    for mine in (row for row in rows if row.latency_ms is not None and row.name.startswith("ours")):
        near = [p for p in peers if p.score is None or p.score >= (peers[0].score or 0.0) - 1]
        best = min(near, key=lambda p: p.latency_ms or 0.0)
        print(f"{mine.name}: {(best.latency_ms or 0.0) / (mine.latency_ms or 1.0):.2f}x as fast as {best.name}")


def _runtime_of(folder: Path) -> str:
    measured = Report.load(folder).latency
    return "" if measured is None else measured.runtime


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calib", required=True)
    parser.add_argument("--eval")
    parser.add_argument("--ours", nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--samples", type=int, default=128, help="the most calibration samples")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="the longest measurement")
    parser.add_argument("--keep", type=Path, help="an existing folder: NNCF's model stays there for the next run")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    amx = "with AMX" if any(f.startswith("amx") for f in this_cpu().features) else "no AMX here"
    names = ("edgeprune", "onnxruntime", "openvino", "nncf")
    versions: Mapping[str, str] = {name: _version(name) for name in names}
    print(f"{arguments.model.name} on {this_cpu()} ({amx}), {arguments.threads} thread(s), {dict(versions)}")
    rows = compare(arguments)
    metric = open_evaluation(arguments.eval, graph.load(arguments.model)).metric if arguments.eval else ""
    show(rows, metric)
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions, "rows": [asdict(r) for r in rows]}, indent=1))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
