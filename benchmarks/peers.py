"""edgeprune and other post-training tools: the same model, data and machine, all timed in one run.

    python benchmarks/peers.py MODEL.onnx --calib SRC --eval SRC --ours FOLDER... [--peers NAME...]

``--ours`` are folders that ``edgeprune compile`` wrote for this model. A peer that is not installed or does not run is
skipped, and the reason is printed. The peers:

    ort conv, ort all    onnxruntime's static quantizer with its best settings for x86: preprocessed, U8S8 per channel,
                         QDQ; only convolutions, or all supported operators
    nncf                 NNCF's post-training quantization of the ONNX model, mixed preset, with its bias correction
    onnxsim              onnxsim's structured pruning at the given shares, alone and followed by ``ort conv``
    torch-pruning        Torch-Pruning by magnitude of a torch module with the model's weights (``torch_network.py``),
                         without fine-tuning, exported and quantized as ``ort conv``; at the smallest share at which
                         it is as fast as each of ours, and at the given shares

The table has latency and score of each. The last lines name the peers that are faster and not worse than ours.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import Calibration, Evaluation, open_calibration, open_evaluation
from edgeprune.support import describe_failure
from edgeprune.timing import Measurement, benchmark, ratio

SHARES = (0.1, 0.25, 0.5)
BISECTIONS = 5
Make = Callable[[], bytes]


@dataclass(frozen=True)
class Row:
    """One tool: the latency, speedup and score of its model, or the reason of a failure."""

    name: str
    ours: bool
    latency_ms: float | None = None
    ci_ms: tuple[float, float] | None = None
    speedup: float | None = None
    score: float | None = None
    failure: str = ""


class _Reader:
    """Calibration data for onnxruntime's quantizer."""

    def __init__(self, data: Calibration):
        self._feeds: Iterator[Mapping[str, Any]] = iter(data.batches(1))

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._feeds, None)


def ort_static(model: bytes, data: Calibration, ops: Sequence[str] | None) -> bytes:
    """onnxruntime's static quantization for x86 with VNNI."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        before, prepared, after = (Path(folder) / f"{name}.onnx" for name in ("before", "prepared", "after"))
        before.write_bytes(model)
        quant_pre_process(str(before), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(after),
            _Reader(data),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=ops,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return after.read_bytes()


def nncf_static(model: bytes, data: Calibration) -> bytes:
    """NNCF's post-training quantization of an ONNX model."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    samples = [dict(feeds) for feeds in data.batches(1)]
    quantized = nncf.quantize(
        onnx.load_from_string(model),
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
    )
    return bytes(quantized.SerializeToString())


def onnxsim_pruned(model: bytes, share: float) -> bytes:
    """onnxsim's structured pruning by the L2 norm."""
    from onnxsim.pruning import apply_structured_pruning

    return bytes(apply_structured_pruning(onnx.load_from_string(model), sparsity=share).SerializeToString())


def torch_pruned(model: ir.Model, share: float, feeds: Mapping[str, Any]) -> bytes:
    """The model as a torch module, pruned by Torch-Pruning and exported with an open batch."""
    import torch
    import torch_pruning as tp
    from torch_network import torch_network

    torch.set_num_threads(1)
    network = torch_network(graph.clone(model), feeds)
    example = tuple(torch.from_numpy(np.array(x)) for x in feeds.values())
    heads = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1:]
    pruner = tp.pruner.MagnitudePruner(
        network, example, importance=tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=share,
        round_to=8, ignored_layers=heads,
    )  # fmt: skip
    pruner.step()
    buffer = io.BytesIO()
    torch.onnx.export(
        network, example, buffer, input_names=list(feeds), opset_version=17, dynamo=False,
        dynamic_axes={name: {0: "batch"} for name in feeds},
    )  # fmt: skip
    return buffer.getvalue()


def as_fast_as(make: Callable[[float], bytes], latency_ms: Callable[[bytes], float], wanted_ms: float) -> bytes:
    """The model pruned by the smallest share that makes it as fast; by bisection."""
    low, high, best = 0.0, 0.9, None
    for _ in range(BISECTIONS):
        share = (low + high) / 2
        made = make(share)
        if latency_ms(made) <= wanted_ms:
            best, high = made, share
        else:
            low = share
    if best is None:
        raise RuntimeError(f"no share up to {high:.0%} is as fast")
    print(f"    a share of {high:.0%}", file=sys.stderr)
    return best


def peers(arguments: argparse.Namespace, original: ir.Model, data: Calibration) -> dict[str, Make]:
    """Name of a peer -> function that makes its model."""
    model = arguments.model.read_bytes()
    feeds = next(iter(data.batches(1)))
    runtime = OnnxRuntime(arguments.threads)

    def latency_ms(made: bytes) -> float:
        return benchmark({"it": runtime.load(made).bind(feeds)}, max_seconds=2.0)["it"].median_ms

    def torch_pruned_and_quantized(share: float) -> bytes:
        return ort_static(torch_pruned(original, share, feeds), data, ["Conv"])

    def torch_pruned_as_fast_as(folder: str) -> bytes:
        wanted_ms = latency_ms((Path(folder) / "model.onnx").read_bytes())
        return as_fast_as(torch_pruned_and_quantized, latency_ms, wanted_ms)

    found: dict[str, Make] = {
        "ort conv": lambda: ort_static(model, data, ["Conv"]),
        "ort all": lambda: ort_static(model, data, None),
        "nncf": lambda: nncf_static(model, data),
    }
    for share in SHARES:
        found[f"onnxsim {share:.0%}"] = partial(onnxsim_pruned, model, share)
        found[f"onnxsim {share:.0%} + ort conv"] = partial(_onnxsim_quantized, model, share, data)
        found[f"torch-pruning {share:.0%} + ort"] = partial(torch_pruned_and_quantized, share)
    for folder in arguments.ours:
        found[f"torch-pruning as {Path(folder).name} + ort"] = partial(torch_pruned_as_fast_as, folder)
    wanted = arguments.peers or ("",)
    return {name: make for name, make in found.items() if name.startswith(tuple(wanted))}


def _onnxsim_quantized(model: bytes, share: float, data: Calibration) -> bytes:
    return ort_static(onnxsim_pruned(model, share), data, ["Conv"])


def compare(arguments: argparse.Namespace) -> list[Row]:
    """Make, time and score everything."""
    original = graph.load(arguments.model)
    model = arguments.model.read_bytes()
    data = open_calibration(arguments.calib, original, limit=arguments.samples)
    evaluation = open_evaluation(arguments.eval, original)
    runtime = OnnxRuntime(arguments.threads)
    feeds = {name: np.ascontiguousarray(x) for name, x in next(iter(data.batches(1))).items()}
    made: dict[str, bytes] = {"original": model}
    made |= {f"edgeprune {Path(f).name}": (Path(f) / "model.onnx").read_bytes() for f in arguments.ours}
    ours = set(made) - {"original"}
    failures: dict[str, str] = {}
    for name, make in peers(arguments, original, data).items():
        print(f"  {name} ...", file=sys.stderr)
        try:
            candidate = make()
            runtime.load(candidate).run(feeds)
            made[name] = candidate
        except ImportError as error:
            failures[name] = f"{error.name} is not installed"
        except Exception as error:  # any error of a peer is its result
            failures[name] = describe_failure(error)[:100]
    runs = {name: runtime.load(candidate) for name, candidate in made.items()}
    measured = benchmark({n: r.bind(feeds) for n, r in runs.items()}, min_seconds=5.0, max_seconds=arguments.seconds)
    rows = [_row(name, name in ours, measured, evaluation, runs[name].run) for name in made]
    return rows + [Row(name, False, failure=why) for name, why in failures.items()]


def _row(name: str, ours: bool, measured: Mapping[str, Measurement], evaluation: Evaluation, run: Any) -> Row:
    mine = measured[name]
    speedup = ratio(measured["original"], mine).value
    return Row(name, ours, mine.median_ms, (mine.ci_low_ms, mine.ci_high_ms), speedup, evaluation.score(run).value)


def show(rows: Sequence[Row], metric: str) -> None:
    """Print the table, and the peers that are better than ours."""
    reference = rows[0]
    assert reference.score is not None
    print(f"{'':32s} {'latency ms':>10s} {'95% interval':>18s} {'speed':>7s} {metric:>22s} {'drop':>7s}")
    for row in rows:
        if row.latency_ms is None or row.ci_ms is None or row.score is None:
            print(f"{row.name:32s} fails: {row.failure}")
            continue
        low, high = row.ci_ms
        print(
            f"{row.name:32s} {row.latency_ms:10.3f} {f'{low:.3f} to {high:.3f}':>18s} {row.speedup:6.2f}x "
            f"{row.score:22.2f} {reference.score - row.score:7.2f}"
        )
    ran = [row for row in rows[1:] if row.latency_ms is not None and row.score is not None]
    peers_that_ran = [row for row in ran if not row.ours]
    for mine in (row for row in ran if row.ours):
        assert mine.latency_ms is not None
        assert mine.score is not None
        near = [p for p in peers_that_ran if p.score is not None and p.score >= reference.score - 1]
        if near:
            best = min(near, key=lambda p: p.latency_ms or 0.0)
            print(f"{mine.name}: {(best.latency_ms or 0.0) / mine.latency_ms:.2f}x as fast as {best.name}, "
                  f"the fastest peer within 1 point")  # fmt: skip
        for peer in peers_that_ran:
            if (peer.latency_ms or 0.0) <= mine.latency_ms and (peer.score or 0.0) >= mine.score:
                print(f"{mine.name} LOSES to {peer.name}: faster or equal, and no worse")


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--calib", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--ours", nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--peers", nargs="*", metavar="NAME", help="only peers whose names start so")
    parser.add_argument("--samples", type=int, default=128, help="the most calibration samples")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="the longest measurement")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    rows = compare(arguments)
    names = ("edgeprune", "onnxruntime", "nncf", "onnxsim", "torch-pruning")
    versions = {n: importlib.metadata.version(n) for n in names if importlib.util.find_spec(n.replace("-", "_"))}
    print(f"{OnnxRuntime(arguments.threads).device}, {arguments.threads} thread(s), {versions}")
    show(rows, open_evaluation(arguments.eval, graph.load(arguments.model)).metric)
    if arguments.json:
        arguments.json.write_text(json.dumps({"versions": versions, "rows": [asdict(r) for r in rows]}, indent=1))


if __name__ == "__main__":
    main()
