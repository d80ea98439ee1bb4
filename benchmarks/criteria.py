"""Every importance criterion on equal terms: accuracy at the same multiply-accumulates, raw and repaired.

    python benchmarks/criteria.py --model NET.onnx CALIB EVAL [--model ...] [--keep 0.75 0.5] [--criteria obs l2 ...]

Each criterion ranks the units of every group; the same share of every group goes, in steps of 8, the least that leaves
at most the given share of the dense network's multiply-accumulates. So networks differ in *which* units stay, and in
nothing else. Prints a Markdown table: the share that is left, the seconds of ranking, and the score of the cut network
as it is, with compensation, and, with ``--learn``, with reconstruction behind it. CALIB and EVAL are as ``edgeprune
compile`` takes them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.calibration import Calibration, open_calibration
from edgeprune.calibration.evaluation import Evaluation, open_evaluation
from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.errors import EdgepruneError
from edgeprune.graph import model_io as graph
from edgeprune.importance import CRITERIA, rank
from edgeprune.importance.uniform_cut import choose
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.recover.compensate import compensate
from edgeprune.passes.recover.reconstruct import Kept, reconstruct, split_for_learning

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
        print(_titles(arguments.learn), flush=True)
        for row in _compare(Path(file).stem, dense, data, judge, arguments):
            rows.append(row)
            print(_line(row, arguments.learn), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


def _compare(
    name: str, dense: ir.Model, data: Calibration, judge: Evaluation, arguments: argparse.Namespace
) -> Iterator[Row]:
    analysis = analyse(dense)
    ratios = {keep: ratio_that_leaves(dense, analysis, keep) for keep in arguments.keep}
    for criterion in arguments.criteria:
        started = time.perf_counter()
        try:
            rankings = rank(criterion, dense, analysis, data, STEP)
        except EdgepruneError as error:
            yield Row(name, criterion, failure=str(error))
            continue
        ranking_s = time.perf_counter() - started
        for ratio in ratios.values():
            cut = choose(analysis, rankings, ratio, STEP)
            pruned = prune_channels(dense, analysis, cut)
            refitted = compensate(dense, pruned, analysis, cut, data)
            learned = _learned(dense, refitted, data, analysis.kept(cut)) if arguments.learn else None
            left = sum(graph.count_macs(pruned).values()) / sum(graph.count_macs(dense).values())
            scores = [None if m is None else _score(judge, m) for m in (pruned, refitted, learned)]
            yield Row(name, criterion, left, ranking_s, *scores)


def _learned(dense: ir.Model, compressed: ir.Model, data: Calibration, kept: Kept) -> ir.Model:
    fit, judge = split_for_learning(dense, data)
    learned = reconstruct(dense, compressed, fit, judge, kept=kept)
    return compressed if learned is None else learned


def _score(judge: Evaluation, model: ir.Model) -> float:
    return judge.score(OnnxRuntime().load(model).run)


def ratio_that_leaves(dense: ir.Model, analysis: Analysis, keep: float) -> float:
    """The smallest share of every group, in steps of 5%, whose removal leaves at most ``keep`` of the MACs."""
    whole = sum(graph.count_macs(dense).values())
    rankings = rank("l2", dense, analysis)  # widths do not depend on which units stay
    for ratio in RATIOS:
        pruned = prune_channels(dense, analysis, choose(analysis, rankings, float(ratio), STEP))
        if sum(graph.count_macs(pruned).values()) <= keep * whole:
            break
    return float(ratio)


def _titles(learned: bool) -> str:
    titles = ["criterion", "MACs left", "ranking, s", "cut", "compensated", *(["reconstructed"] if learned else [])]
    return f"| {' | '.join(titles)} |\n|---{'|---:' * (len(titles) - 1)}|"


def _line(row: Row, learned: bool) -> str:
    cells = [f"`{row.criterion}`", f"{row.macs_left:.1%}", f"{row.ranking_s:.1f}"]
    cells += ["" if s is None else f"{s:.2f}" for s in (row.raw, row.compensated, row.reconstructed)[: 2 + learned]]
    return f"| {' | '.join(cells)} |" if not row.failure else f"| `{row.criterion}` | {row.failure} |"


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
