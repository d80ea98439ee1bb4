"""The files for OpenVINO beside ``model.onnx``: its own form of the model, and a script that runs it as measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeprune.backends import HINTS, save_xml
from edgeprune.support import plural

XML = "model.xml"
SCRIPT = "run_openvino.py"

_TEXT = '''\
"""Runs model.xml in OpenVINO as it was measured: {threads}, float layers in {precision}.

usage: python {script} [FEEDS.npz] [OUTPUTS.npz]; without feeds, the inputs are random numbers.
"""

import pathlib, sys, time

import numpy as np
import openvino as ov

model = ov.Core().read_model(pathlib.Path(__file__).with_name("{xml}"))
{reshape}compiled = ov.compile_model(model, "CPU", {settings})
feeds = dict(np.load(sys.argv[1])) if len(sys.argv) > 1 else {{
    i.any_name: np.random.rand(*i.shape).astype(i.element_type.to_dtype()) for i in compiled.inputs
}}
outputs = {{o.any_name: array for o, array in compiled(feeds).items()}}
if len(sys.argv) > 2:
    np.savez(sys.argv[2], **outputs)
times = []
for _ in range(50):
    start = time.perf_counter()
    compiled(feeds)
    times.append(time.perf_counter() - start)
print(f"median of {{len(times)}} runs: {{1e3 * np.median(times):.3f}} ms")
'''


def write_openvino(folder: Path, threads: int, precision: str, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Write both files into an output folder that has ``model.onnx``.

    Args:
        folder: the output folder.
        threads: of an inference.
        precision: of the float layers: fp32, bf16 or fp16.
        shapes: sizes of the inputs that have open ones.

    Returns:
        A note on their use, for the report.
    """
    save_xml(folder / "model.onnx", folder / XML, precision)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": HINTS[precision],
    }
    reshape = f"model.reshape({ {name: list(shape) for name, shape in shapes.items()} })\n" if shapes else ""
    text = _TEXT.format(
        threads=plural(threads, "thread"),
        precision=precision,
        script=SCRIPT,
        xml=XML,
        reshape=reshape,
        settings=settings,
    )
    (folder / SCRIPT).write_text(text, encoding="utf-8")
    return [
        f"OpenVINO runs {XML} with the settings in {SCRIPT}; model.onnx is the same graph, and onnxruntime runs it too"
    ]
