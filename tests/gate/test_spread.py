"""Builds and boards in a gate: their spread is in the interval, and a board that stands out is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeprune.errors import UsageError
from edgeprune.gate.gate import gate
from edgeprune.report import Report
from edgeprune.report.latency import repeats_of
from edgeprune.timing import Memory
from tests.reports import measurement, report


def engines(*result_ms: float, boards: tuple[str, ...] = ()) -> Report:
    """A report of engines: of builds, or of one build on each board."""
    made = report()
    assert made.latency is not None
    base = made.latency.baseline
    results = [measurement(ms, noise=0.002, seed=n) for n, ms in enumerate(result_ms)]
    places = [(b, 0) for b in boards] or [("", n) for n in range(len(results))]
    samples = repeats_of((board, build, base, result) for (board, build), result in zip(places, results, strict=True))
    typical = sorted(results, key=lambda r: r.median_ms)[(len(results) - 1) // 2]
    kept = samples if len(samples) > 1 else ()
    timed = replace(made.latency, runtime="tensorrt 10.3.0", threads=None, result=typical, samples=kept)
    return replace(made, latency=timed, operating_point={"TensorRT": "10.3.0"})


def test_builds_that_differ_make_the_interval_wider():
    """A growth of 6% by one build of each is a failure; among builds that differ by 8% it may be chance."""
    alone = gate(engines(2.12), baseline=engines(2.0), max_regression=0.03)
    assert [check.verdict for check in alone.checks] == ["fail"]
    assert "--builds 3" in " ".join(alone.notes)
    several = gate(engines(2.04, 2.12, 2.2), baseline=engines(1.92, 2.0, 2.08), max_regression=0.03)
    (check,) = several.checks
    assert check.verdict == "unsure"
    assert "3 runs against 3" in check.detail
    assert not several.notes
    assert gate(engines(2.39, 2.4, 2.41), baseline=engines(1.99, 2.0, 2.01), max_regression=0.03).verdict == "failed"


def test_a_board_that_stands_out_is_named():
    found = gate(engines(2.0, 2.4, 2.01, boards=("a", "b", "c")), max_latency_ms=2.1)
    assert found.checks[0].value.startswith("2.0")
    assert found.notes == ("board b is 20% slower than the median of 3 boards: look at the board before the commit",)
    assert not gate(engines(2.0, 2.3, boards=("a", "b")), max_latency_ms=4.0).notes


def test_engines_of_another_timing_cache_are_not_compared():
    pinned = replace(engines(2.0), operating_point={"TensorRT": "10.3.0", "timing cache": "0123456789abcdef"})
    with pytest.raises(UsageError, match="timing cache: 0123456789abcdef instead of none"):
        gate(pinned, baseline=engines(2.0), max_regression=0.05)
    assert gate(pinned, baseline=pinned, max_regression=0.05).verdict == "passed"


def test_memory_on_the_device_counts_before_the_count():
    made = replace(engines(2.0), memory={"result": Memory(12.5, 9.5, 3.0, 410.0, "build")})
    for limit, verdict in ((12.5, "pass"), (12.4, "fail")):
        (check,) = gate(made, max_memory_mb=limit).checks
        assert (check.value, check.verdict) == ("12.5 MB", verdict)
        assert "what TensorRT says" in check.detail
        assert "410 MB less available" in check.detail
