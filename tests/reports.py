"""Reports for tests, from made-up measurements."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

from edgeprune.report.compile_cost import CompileCost, Cost
from edgeprune.report.model import (
    Accuracy,
    Latency,
    Layer,
    ModelFile,
    Outcome,
    Prediction,
    Refusal,
    Report,
    Search,
    Size,
    Sizes,
)
from edgeprune.report.pareto_curve import Curve, Point
from edgeprune.timing.intervals import median_interval
from edgeprune.timing.protocol import Measurement, ratio


def measurement(median_ms: float, *, noise: float = 0.0, blocks: int = 20, seed: int = 0) -> Measurement:
    """Blocks that scatter log-normally around a latency."""
    draw = random.Random(seed)
    return of_blocks([median_ms * math.exp(draw.gauss(0, noise)) for _ in range(blocks)])


def of_blocks(blocks_ms: Sequence[float]) -> Measurement:
    """What the timing protocol makes of block medians."""
    logs = median_interval([math.log(ms) for ms in blocks_ms])
    low_ms, value_ms, high_ms = (math.exp(x) for x in (logs.low, logs.value, logs.high))
    return Measurement(value_ms, 1.2 * value_ms, low_ms, high_ms, 50 * len(blocks_ms), tuple(blocks_ms))


def latency(baseline: Measurement, result: Measurement, **changes: object) -> Latency:
    """What a compile measures on one thread of a processor."""
    found = Latency("Processor, 2 cores", "onnxruntime 1.0", 1, baseline, result, ratio(baseline, result))
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def report(**changes: object) -> Report:
    """A compile from 6 to 2 ms that loses half a point."""
    whole = Report(
        command="compile",
        target="cpu",
        model=ModelFile("net.onnx", "00" * 32),
        outcome=Outcome("compressed", True, "Pruned and quantized."),
        sizes=Sizes(
            Size(4_000_000, 1_000_000, 2_000_000_000, 3_000_000), Size(1_000_000, 900_000, 1_500_000_000, 2_000_000)
        ),
        versions={"edgeprune": "0.1.0"},
        seconds={"profiling": 61.0, "searching": 2.5},
        cost=CompileCost(
            Cost(90.0, 1_500_000_000, 0), Cost(80.5, 1_400_000_000, 20_000_000), {"profiling": 70.0, "searching": 3.0}
        ),
        seed=3,
        latency=latency(measurement(6.0, noise=0.01, seed=1), measurement(2.0, noise=0.01, seed=2)),
        predicted=Prediction(6.1, 2.05, "measured", 0.05),
        accuracy=Accuracy("evaluation", "top-1 accuracy", "%", 93.1, 92.6, 0.5, 1000),
        calibration="calib.npz, 128 samples",
        search=Search(40, 48, 0.004, 0.003, 0.002),
        layers=(
            Layer("conv_a", ("conv_a", "act_3"), "int8", 12.5, 13.0, 40.0, 0.01),
            Layer("conv_b", ("conv_b",), "fp16", 8.0, None, None, 0.0),
        ),
        refused=(Refusal("no rule for com.acme::Swoosh", 2, ("act_3",)),),
        warnings=("the machine was busy",),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def curve(*points: Point) -> Curve:
    """The compiles of one model to several speed-ups."""
    return Curve(
        target="cpu",
        model=report().model,
        device="Processor",
        runtime="onnxruntime",
        threads=1,
        seed=0,
        calibration=None,
        points=points,
    )
