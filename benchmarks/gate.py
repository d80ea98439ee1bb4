"""Rates of false alarms and of missed regressions of the gate, by simulation of noisy and disturbed machines.

Every row is a machine: how its speed changes while one of the two reports is measured. Every column is a true growth of
the latency; the limit is 5%. A figure is the share of trials in which the gate fails. With ``--runs N`` report and
baseline have N separate runs each, of which the machine is disturbed in one. Needs no model and no device.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from statistics import median

from edgeprune import Report
from edgeprune.gate import gate
from edgeprune.report import Latency, ModelFile, Repeat, Size, Sizes
from edgeprune.report.model import Outcome
from edgeprune.timing import Measurement, median_interval, ratio

LIMIT = 0.05
GROWTHS = (0.0, 0.02, 0.05, 0.10, 0.20, 0.40)
ROUNDS = 20
SIZE = Size(1, 1, 1, 1)

MACHINES: dict[str, Callable[[random.Random], list[float]]] = {
    "steady": lambda draw: [0.0] * ROUNDS,
    "drifts": lambda draw: [i / (ROUNDS - 1) for i in range(ROUNDS)],
    "throttles at some point": lambda draw: [
        float(i >= start) for start in [draw.randrange(1, ROUNDS)] for i in range(ROUNDS)
    ],
    "is fast in every sixth round": lambda draw: [float(i % 6 != 0) for i in range(ROUNDS)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="of every figure")
    parser.add_argument("--noise", type=float, default=0.01, help="deviation of a block, as a fraction")
    parser.add_argument(
        "--session", type=float, default=0.007, help="deviation from one run to the next, as a fraction"
    )
    parser.add_argument("--runs", type=int, default=1, help="separate runs of each report")
    parser.add_argument("--all-disturbed", action="store_true", help="the machine changes its speed in every run")
    parser.add_argument("--baseline-of", choices=["same", "another"], help="only these rows: which original it has")
    parser.add_argument("--machine", choices=list(MACHINES), help="only the rows of this machine")
    options = parser.parse_args()
    for same in (True, False) if options.baseline_of is None else (options.baseline_of == "same",):
        print(f"\n{'relative to the same original' if same else 'another original: latencies as they are'}")
        print("| the machine | by | while measuring | " + " | ".join(f"{g:+.0%}" for g in GROWTHS) + " |")
        print("|---|---|---|" + "---|" * len(GROWTHS))
        for name, shape in MACHINES.items():
            if options.machine not in (None, name):
                continue
            for change in (0.0,) if name == "steady" else (0.05, 0.09, 0.30):
                for disturbed in ("both",) if name == "steady" else ("the report", "the baseline"):
                    rates = [_failed(options, same, shape, change, disturbed, growth) for growth in GROWTHS]
                    cells = " | ".join(f"{rate:.1%}" for rate in rates)
                    print(f"| {name} | {change:.0%} | {disturbed} | {cells} |", flush=True)


def _failed(
    options: argparse.Namespace,
    same: bool,
    shape: Callable[[random.Random], list[float]],
    change: float,
    disturbed: str,
    growth: float,
) -> float:
    draw = random.Random(f"{same} {change} {disturbed} {growth}")
    failed = 0
    for _ in range(options.trials):
        now, then = (
            [shape(draw) if here and (k == 0 or options.all_disturbed) else [0.0] * ROUNDS for k in range(options.runs)]
            for here in (disturbed != "the baseline", disturbed != "the report")
        )
        clocks = [[[1 + change * s for s in run] for run in runs] for runs in (now, then)]
        report = _report(options, draw, clocks[0], 1 + growth, "a")
        baseline = _report(options, draw, clocks[1], 1.0, "a" if same else "b")
        failed += not gate(report, baseline=baseline, max_regression=LIMIT).passed
    return failed / options.trials


def _report(
    options: argparse.Namespace, draw: random.Random, clocks: list[list[float]], factor: float, model: str
) -> Report:
    runs = [Repeat(*pair, ratio(*pair)) for pair in (_pair(options, draw, clock, factor) for clock in clocks)]
    latency = Latency(
        "simulated", "none", 1, runs[0].baseline, runs[0].result, runs[0].speedup, repeats=tuple(runs[1:])
    )
    return Report(
        command="compile",
        target="cpu",
        model=ModelFile("net.onnx", model),
        outcome=Outcome("compressed", True, "simulated"),
        sizes=Sizes(SIZE, SIZE),
        versions={},
        seconds={},
        seed=0,
        latency=latency,
    )


def _pair(
    options: argparse.Namespace, draw: random.Random, clock: list[float], factor: float
) -> tuple[Measurement, Measurement]:
    """Original and result in one run."""
    return _measured(options, draw, clock, 6.0), _measured(options, draw, clock, 2.0 * factor)


def _measured(options: argparse.Namespace, draw: random.Random, clock: list[float], ms: float) -> Measurement:
    run_ms = ms * math.exp(draw.gauss(0, options.session))
    blocks_ms = tuple(run_ms * slow * math.exp(draw.gauss(0, options.noise)) for slow in clock)
    logs = median_interval([math.log(block) for block in blocks_ms])
    return Measurement(median(blocks_ms), max(blocks_ms), math.exp(logs.low), math.exp(logs.high), 1000, blocks_ms)


if __name__ == "__main__":
    main()
