"""Compile PP-OCRv4's text recogniser for this computer's processor and show the result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lines import rendered_lines
from ocr import EVALUATION_SEED, characters, model_file, read

from edgeprune import Report
from edgeprune.backends import OnnxRuntime
from edgeprune.errors import BudgetError

HERE = Path(__file__).resolve().parent
SHOWN_LINES = 6
SPEEDUP = "2.5"
"""About the speedup of INT8 alone on processors with VNNI; on other processors, channels must be cut too."""


def main() -> int:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "ocr.cpu")
    code = compile_ocr(out, "--speedup", SPEEDUP)
    if code == BudgetError.exit_code:
        print("Instead, compile the fastest model that loses at most 1 point of characters:\n")
        code = compile_ocr(out, "--max-drop", "1")
    if code != 0:
        return code
    show_lines(out)
    show_figures(out)
    return 0


def compile_ocr(out: Path, *budget: str) -> int:
    """Run ``edgeprune compile``; returns its exit code."""
    arguments = ["compile", str(model_file()), "--target", "cpu", *budget]
    arguments += ["--calib", f"{HERE / 'ocr.py'}:calibration", "--eval", f"{HERE / 'ocr.py'}:characters_correct"]
    arguments += ["--shape", "x=1x3x48x320", "-o", str(out), "--force"]
    print("$ edgeprune", " ".join(arguments), flush=True)
    return subprocess.run([sys.executable, "-m", "edgeprune", *arguments], check=False).returncode


def show_lines(out: Path) -> None:
    """Print a few lines as both models read them."""
    alphabet = characters()
    before, after = OnnxRuntime().load(model_file()), OnnxRuntime().load(out / "model.onnx")
    print(f"\n{'written':26}{'read by the original':26}read by the compiled model")
    for text, image in rendered_lines(SHOWN_LINES, EVALUATION_SEED):
        old, new = (read(model.run({"x": image[None]})[0][0], alphabet) for model in (before, after))
        print(f"{text:26}{old:26}{new}")


def show_figures(out: Path) -> None:
    """Print characters correct and latency, before and after, from report.json."""
    report = Report.load(out)
    assert report.accuracy is not None
    assert report.accuracy.before is not None
    assert report.latency is not None
    faster = report.latency.speedup
    print(f"\ncharacters correct: {report.accuracy.before:.2f}% before, {report.accuracy.after:.2f}% after")
    print(
        f"latency, measured on one thread: {report.latency.baseline.median_ms:.2f} ms before, "
        f"{report.latency.result.median_ms:.2f} ms after: {faster.value:.2f}x as fast "
        f"(95% interval {faster.ci_low:.2f} to {faster.ci_high:.2f})"
    )
    if (unpruned := report.latency.variants.get("int8")) is not None:
        more = unpruned.median_ms / report.latency.result.median_ms
        print(f"the unpruned network in INT8: {unpruned.median_ms:.2f} ms; the result is {more:.2f}x as fast")
    print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
