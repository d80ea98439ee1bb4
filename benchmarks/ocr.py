"""PP-OCRv4 on rendered text: speedup and characters correct, for its recogniser and its detector.

    python benchmarks/ocr.py [--rec FILE] [--det FILE] [--only rec|det] [--speedups 1.2 1.5 2] [-o FOLDER]

Each model is compiled for this processor at all speedups in one run (``edgeprune compile --pareto``). The recogniser is
scored by the characters that it reads on lines that calibration did not use; the detector by the characters that the
original recogniser reads in its boxes on whole pages. The default files are those in the package rapidocr-onnxruntime.

The results are then timed and scored beside onnxruntime's own INT8, all in one run (``peers.py``). For that the models
are first converted from opset 12 to 17: for older opsets onnxruntime's quantizer writes invalid models.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import onnx
import onnx.version_converter
from pages import PAGE_HEIGHT, PAGE_WIDTH, model_file

from edgeprune import Report
from edgeprune.report import folder_of

HERE = Path(__file__).resolve().parent
OCR = HERE.parent / "examples" / "ocr" / "ocr.py"
PAGES = HERE / "pages.py"
PEERS = HERE / "peers.py"
OPSET = 17


def main() -> int:
    """Compile both models and print a table."""
    arguments = _arguments()
    page = f"x=1x3x{PAGE_HEIGHT}x{PAGE_WIDTH}"
    models = [
        ("recogniser", arguments.rec, f"{OCR}:calibration", f"{OCR}:characters_correct", "x=1x3x48x320"),
        ("detector", arguments.det, f"{PAGES}:calibration", f"{PAGES}:characters_found", page),
    ]
    rows = []
    for name, model, calibration, evaluation, shape in models:
        if not name.startswith(arguments.only):
            continue
        out = arguments.out / name
        data = ["--calib", calibration, "--eval", evaluation]
        command = ["-m", "edgeprune", "compile", str(model), "--target", "cpu", "--force", "-o", str(out)]
        command += ["--pareto", ",".join(map(str, arguments.speedups)), "--shape", shape, *data]
        if code := _run_python(command):
            print(f"{name}: exit code {code}")
            continue
        folders = [out / folder_of(asked) for asked in arguments.speedups]
        rows += [_row(name, asked, folder) for asked, folder in zip(arguments.speedups, folders, strict=True)]
        _compare_with_onnxruntime(model, data, [folder for folder in folders if folder.is_dir()], out)
    print(f"\n{'model':10} {'asked':>6} {'measured':>9} {'95%':>12} {'before':>8} {'after':>8}")
    print("\n".join(rows))
    return 0 if rows else 1


def _compare_with_onnxruntime(model: Path, data: list[str], folders: list[Path], out: Path) -> None:
    newer = out / f"{model.stem}.opset{OPSET}.onnx"
    onnx.save(onnx.version_converter.convert_version(onnx.load(model), OPSET), newer)
    more = ["--peers", "ort", "--json", str(out / "peers.json"), "--ours", *map(str, folders)]
    _run_python([str(PEERS), str(newer), *data, *more])


def _run_python(arguments: list[str]) -> int:
    """Print and run a command; returns its exit code."""
    command = [sys.executable, *arguments]
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, check=False).returncode


def _row(name: str, asked: float, folder: Path) -> str:
    if not folder.is_dir():
        return f"{name:10} {asked:6.1f}   not met"
    report = Report.load(folder)
    assert report.latency is not None
    assert report.accuracy is not None
    faster, before = report.latency.speedup, report.accuracy.before
    interval = f"{faster.ci_low:.2f}-{faster.ci_high:.2f}"
    return (
        f"{name:10} {asked:6.1f} {faster.value:8.2f}x {interval:>12} "
        f"{'' if before is None else f'{before:.2f}':>7}% {report.accuracy.after:7.2f}%"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rec", type=Path, help="the recogniser")
    parser.add_argument("--det", type=Path, help="the detector")
    parser.add_argument("--only", choices=["rec", "det"], default="", help="one of the two models")
    parser.add_argument("--speedups", nargs="+", type=float, default=[1.2, 1.5, 2.0])
    parser.add_argument("-o", "--out", type=Path, default=Path("ocr.cpu"), help="folder for the results")
    arguments = parser.parse_args()
    arguments.rec = arguments.rec or model_file()
    arguments.det = arguments.det or model_file().with_name("ch_PP-OCRv4_det_infer.onnx")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
