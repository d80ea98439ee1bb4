"""Every importance criterion under equal conditions: accuracy at the same MACs, without and with recovery.

    python benchmarks/criteria.py --model NET.onnx CALIB EVAL [--model ...] [--keep 0.75 0.5] [--criteria obs l2 ...]

Each criterion ranks the units of every group. The same share of every group is removed, in steps of 8: the smallest
share that leaves at most the given share of the dense network's multiply-accumulates (MACs). So networks differ only
in *which* units are kept. Prints a Markdown table: the MACs that are left, the seconds of ranking, and the score of
the cut network without recovery, with compensation, and, with ``--learn``, with reconstruction after it. CALIB and
EVAL are the same as for ``edgeprune compile``.
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

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import Calibration, Evaluation, open_calibration, open_evaluation
from edgeprune.dependency import Analysis, Cut, analyse
from edgeprune.errors import EdgepruneError
from edgeprune.importance import CRITERIA, choose, rank
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.prune import prune_channels
from edgeprune.passes.recover import compensate, reconstruct, split_for_learning

STEP = 8
RATIOS = np.arange(0.05, 0.96, 0.05)


@dataclass(frozen=True)
class Row:
    """One criterion at one size: scores, None if they were not requested; or the reason of a failure."""

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
    for file, calib, scored_by in arguments.model:
        dense = canonicalize(graph.load(file))
        data = open_calibration(calib, dense, limit=arguments.samples)
        evaluation = open_evaluation(scored_by, dense)
        print(f"\n{Path(file).name}: {evaluation.metric}, dense {_score(evaluation, dense):.2f}; {data.describe()}\n")
        print(_titles(arguments.learn), flush=True)
        for row in _compare(Path(file).stem, dense, data, evaluation, arguments):
            rows.append(row)
            print(_line(row, arguments.learn), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


def _compare(
    name: str, dense: ir.Model, data: Calibration, evaluation: Evaluation, arguments: argparse.Namespace
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
            learned = _learned(dense, refitted, data, analysis, cut) if arguments.learn else None
            left = sum(graph.count_macs(pruned).values()) / sum(graph.count_macs(dense).values())
            scores = [None if m is None else _score(evaluation, m) for m in (pruned, refitted, learned)]
            yield Row(name, criterion, left, ranking_s, *scores)


def _learned(dense: ir.Model, compressed: ir.Model, data: Calibration, analysis: Analysis, cut: Cut) -> ir.Model:
    fit, held_out = split_for_learning(dense, data)
    learned = reconstruct(dense, compressed, fit, held_out, kept=analysis.kept(cut))
    return compressed if learned is None else learned


def _score(evaluation: Evaluation, model: ir.Model) -> float:
    return evaluation.score(OnnxRuntime().load(model).run).value


def ratio_that_leaves(dense: ir.Model, analysis: Analysis, keep: float) -> float:
    """The smallest share of every group, in steps of 5%, whose removal leaves at most ``keep`` of the MACs."""
    whole = sum(graph.count_macs(dense).values())
    rankings = rank("l2", dense, analysis)  # the widths are the same for every criterion
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
    parser.add_argument("--learn", action="store_true", help="also train the weights by distillation (reconstruction)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
