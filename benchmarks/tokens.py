"""Every token setting under equal conditions: accuracy at the same MACs, and the time in onnxruntime.

    python benchmarks/tokens.py NET.onnx CALIB EVAL [--keep 0.85 0.7 0.55] [--places 0.17 0.5] [--targets orin]

For each setting and place of a transformer, as many tokens leave in one step as bring the network to the given share of
its multiply-accumulates (MACs). So rows of one share differ only in where tokens leave, and in what becomes of them.
Nothing is trained or refitted, and nothing else is cut. Prints a Markdown table: the MACs that are left, the score, the
median time in onnxruntime (one thread, float, timed in turns with the original), and the predicted time for targets.
CALIB gives one sample for the timing, EVAL is the same as for ``edgeprune compile``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import open_calibration, open_evaluation
from edgeprune.costmodel import model_latency_us
from edgeprune.dependency import OpenedModel, open_model
from edgeprune.devices import load_profile
from edgeprune.graph import Refused, count_macs
from edgeprune.latency import TimingHarness, open_harness
from edgeprune.passes.tokens import SETTINGS, Site, token_sites
from edgeprune.passes.x86 import lower_x86
from edgeprune.support import Progress
from edgeprune.tokens import TokenSchedule, with_fewer_tokens


@dataclass(frozen=True)
class Row:
    """One setting at one place and size."""

    setting: str
    schedule: TokenSchedule
    opened: OpenedModel
    macs_left: float


def main() -> int:
    """Print the table."""
    arguments = _arguments()
    opened = open_model(arguments.model, {}, Progress())
    sites = token_sites(opened.dense)
    if isinstance(sites, Refused):
        print(f"no token may leave: {sites}", file=sys.stderr)
        return 1
    evaluation = open_evaluation(arguments.evaluation, opened.dense)
    harness = open_harness(opened, open_calibration(arguments.calib, opened.dense, limit=1), {}, 1)
    profiles = [load_profile(name) for name in arguments.targets]
    rows = [
        row
        for keep in arguments.keep
        for place in arguments.places
        for name in SETTINGS
        if (row := _row(opened, sites, name, place, keep)) is not None
    ]
    runtime = OnnxRuntime(1)
    print("| setting | tokens that leave | MACs | score | onnxruntime |", *(f" {p.name} |" for p in profiles), sep="")
    print("|---|---|---|---|---|", *("---|" for _ in profiles), sep="")
    score = evaluation.score(runtime.load(opened.dense).run).value
    _print("all stay", "", 1.0, score, "1x", [_predicted(opened.fixed, p) for p in profiles])
    for row in rows:
        score = evaluation.score(runtime.load(lower_x86(row.opened.dense)).run).value
        where = ", ".join(f"{n} at {s.node}" for s, n in zip(row.schedule.sites, row.schedule.leave, strict=True))
        predicted = [_predicted(row.opened.fixed, p) for p in profiles]
        _print(row.setting, where, row.macs_left, score, _speed(harness, opened.dense, row.opened.dense), predicted)
    return 0


def _row(opened: OpenedModel, sites: Sequence[Site], name: str, place: float, keep: float) -> Row | None:
    """The schedule with a single step that leaves the share of MACs that is nearest to ``keep`` from above."""
    depths = sorted({site.attentions for site in sites}, reverse=True)
    depth = depths[min(int(place * len(depths)), len(depths) - 1)]
    site = next(s for s in sites if s.attentions == depth)
    whole = sum(count_macs(opened.fixed).values())
    low, high, found = 1, SETTINGS[name].most(site.tokens, site.protected), None
    while low <= high:
        leave = (low + high) // 2
        schedule = TokenSchedule(name, (site,), (leave,))
        reduced = with_fewer_tokens(opened, schedule, sites)
        share = sum(count_macs(reduced.fixed).values()) / whole
        if share >= keep:
            found, low = Row(name, schedule, reduced, share), leave + 1
        else:
            high = leave - 1
    return found if found is not None and found.macs_left < keep + 0.05 else None


def _speed(harness: TimingHarness, whole: ir.Model, reduced: ir.Model) -> str:
    timed = harness.quick({"whole": lower_x86(whole), "reduced": lower_x86(reduced)})
    return f"{timed['whole'].median_ms / timed['reduced'].median_ms:.2f}x"


def _predicted(model: ir.Model, profile) -> float:  # type: ignore[no-untyped-def]
    return model_latency_us(model, profile, "best").latency_ms


def _print(setting: str, where: str, macs: float, score: float, speed: str, predicted: Sequence[float]) -> None:
    cells = (f"{ms:.3f} ms" for ms in predicted)
    print("|", " | ".join([setting, where, f"{macs:.0%}", f"{score:.2f}", speed, *cells]), "|", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("calib")
    parser.add_argument("evaluation")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.85, 0.7, 0.55])
    parser.add_argument("--places", type=float, nargs="+", default=[0.17, 0.5])
    parser.add_argument("--targets", nargs="*", default=[])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
