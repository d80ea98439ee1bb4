"""Every importance criterion on equal terms: accuracy at the same multiply-accumulates, raw and repaired.

    python benchmarks/criteria.py --model NET.onnx CALIB EVAL [--model ...] [--keep 0.75 0.5] [--criteria obs l2 ...]

Each criterion ranks the units of every group; the same share of every group goes, in steps of 8, until at most the
given share of the dense network's multiply-accumulates is left. So networks differ in *which* units stay, and in
nothing else. Columns: the share that is left, the seconds of ranking, and the score of the cut network as it is, with
compensation, and with reconstruction behind it. CALIB and EVAL are as ``edgeprune compile`` takes them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibrate import Calibration, open_calibration
from edgeprune.choose import choose
from edgeprune.errors import EdgepruneError
from edgeprune.evaluate import Evaluation, open_evaluation
from edgeprune.groups import Cut, Ranking
from edgeprune.importance import CRITERIA, rank
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.compensate import compensate
from edgeprune.passes.prune_channels import prune_channels
from edgeprune.passes.reconstruct import reconstruct
from edgeprune.solve import Analysis, analyse

STEP = 8
RATIOS = np.arange(0.05, 0.96, 0.05)


@dataclass(frozen=True)
class Row:
    """One criterion at one size: scores are None where they were not asked for; or why there are none."""

    model: str
    criterion: str
    macs_left: float = 1.0
    ranking_s: float = 0.0
    raw: float | None = None
    compensated: float | None = None
    reconstructed: float | None = None
    failure: str = ""


def main() -> int:
    """Print a table for every model."""
    arguments = _arguments()
    rows = []
    for file, calib, evaluation in arguments.model:
        dense = canonicalize(graph.load(file))
        data, judge = open_calibration(calib, dense, limit=arguments.samples), open_evaluation(evaluation, dense)
        score = judge.score(OnnxRuntime().load(dense).run)
        print(f"\n{Path(file).name}: {judge.metric}, dense {score:.2f}; {data.describe()}\n")
        print(f"{'criterion':10} {'MACs':>6} {'rank s':>7} {'raw':>8} {'compens.':>8} {'learned':>8}", flush=True)
        for keep in arguments.keep:
            for row in _compare(Path(file).stem, dense, data, judge, keep, arguments):
                rows.append(row)
                print(_line(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


def _compare(
    name: str, dense: ir.Model, data: Calibration, judge: Evaluation, keep: float, arguments: argparse.Namespace
) -> list[Row]:
    analysis = analyse(dense)
    rows = []
    for criterion in arguments.criteria:
        started = time.perf_counter()
        try:
            rankings = rank(criterion, dense, analysis, data, STEP)
        except EdgepruneError as error:
            rows.append(Row(name, criterion, failure=str(error)))
            continue
        ranking_s = time.perf_counter() - started
        cut, pruned, left = cut_to(dense, analysis, rankings, keep)
        refitted = compensate(dense, pruned, analysis, cut, data)
        learned = reconstruct(dense, refitted, data, kept=analysis.kept(cut)) if arguments.learn else None
        scores = [None if m is None else judge.score(OnnxRuntime().load(m).run) for m in (pruned, refitted, learned)]
        rows.append(Row(name, criterion, left, ranking_s, *scores))
    return rows


def cut_to(
    dense: ir.Model, analysis: Analysis, rankings: Mapping[str, Ranking], keep: float
) -> tuple[Cut, ir.Model, float]:
    """The smallest even cut that leaves at most this share of the MACs: the cut, the network, the share left."""
    whole = sum(graph.count_macs(dense).values())
    for ratio in RATIOS:
        cut = choose(analysis, rankings, float(ratio), STEP)
        pruned = prune_channels(dense, analysis, cut)
        left = sum(graph.count_macs(pruned).values()) / whole
        if left <= keep:
            break
    return cut, pruned, left


def _line(row: Row) -> str:
    if row.failure:
        return f"{row.criterion:10} {row.failure}"
    scores = (f"{'' if s is None else f'{s:.2f}':>8}" for s in (row.raw, row.compensated, row.reconstructed))
    return f"{row.criterion:10} {row.macs_left:6.1%} {row.ranking_s:7.1f} {' '.join(scores)}"


def _arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs=3, action="append", required=True, metavar=("NET", "CALIB", "EVAL"))
    parser.add_argument("--keep", nargs="+", type=float, default=[0.5], help="shares of the MACs to leave (0.5)")
    parser.add_argument("--criteria", nargs="+", default=list(CRITERIA), choices=list(CRITERIA), help="all by default")
    parser.add_argument("--samples", type=int, default=256, help="calibration samples (256)")
    parser.add_argument("--learn", action="store_true", help="also learn the weights against the dense network")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
