"""PP-OCRv4 on rendered text: speed-up against characters correct, of its recogniser and of its detector.

    python benchmarks/ocr.py [--rec FILE] [--det FILE] [--only rec|det] [--speedups 1.2 1.5 2] [-o FOLDER]

Each model is compiled for this processor at all speed-ups in one run (``edgeprune compile --pareto``). The recogniser
is scored by the characters that it reads on lines it was not calibrated with, the detector by those that the original
recogniser reads in the boxes it finds on whole pages. Without files, those inside the package rapidocr-onnxruntime are
taken.

What came out is then timed and scored beside onnxruntime's own INT8, all in one run (``peers.py``). For that the models
are brought from opset 12 to 17 first: in older ones onnxruntime's quantizer writes invalid models.
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
from edgeprune.report.pareto_curve import folder_of

HERE = Path(__file__).resolve().parent
OCR = HERE.parent / "examples" / "ocr" / "ocr.py"
PAGES = HERE / "pages.py"
PEERS = HERE / "peers.py"
OPSET = 17


def main() -> int:
    """Compile both models and print a table."""
    arguments = _arguments()
    jobs = [
        ("recogniser", arguments.rec, f"{OCR}:calibration", f"{OCR}:characters_correct", "x=1x3x48x320"),
        (
            "detector",
            arguments.det,
            f"{PAGES}:calibration",
            f"{PAGES}:characters_found",
            f"x=1x3x{PAGE_HEIGHT}x{PAGE_WIDTH}",
        ),
    ]
    rows = []
    for name, model, calibration, evaluation, shape in jobs:
        if not name.startswith(arguments.only):
            continue
        out = arguments.out / name
        command = [
            sys.executable,
            "-m",
            "edgeprune",
            "compile",
            str(model),
            "--target",
            "cpu",
            "--force",
            "-o",
            str(out),
        ]
        command += ["--pareto", ",".join(map(str, arguments.speedups)), "--shape", shape]
        command += ["--calib", calibration, "--eval", evaluation]
        print("$", " ".join(command), flush=True)
        if code := subprocess.run(command, check=False).returncode:
            print(f"{name}: exit code {code}")
            continue
        rows += [_row(name, asked, out / folder_of(asked)) for asked in arguments.speedups]
        met = [folder for asked in arguments.speedups if (folder := out / folder_of(asked)).is_dir()]
        _beside_onnxruntime(model, calibration, evaluation, met, out)
    print(f"\n{'model':10} {'asked':>6} {'measured':>9} {'95%':>12} {'before':>8} {'after':>8}")
    print("\n".join(rows))
    return 0 if rows else 1


def _beside_onnxruntime(model: Path, calibration: str, evaluation: str, folders: list[Path], out: Path) -> None:
    newer = out / f"{model.stem}.opset{OPSET}.onnx"
    onnx.save(onnx.version_converter.convert_version(onnx.load(model), OPSET), newer)
    command = [sys.executable, str(PEERS), str(newer), "--calib", calibration, "--eval", evaluation]
    command += ["--peers", "ort", "--json", str(out / "peers.json"), "--ours", *map(str, folders)]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=False)


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
