from __future__ import annotations

from itertools import groupby

import pytest

from edgeprune.timing.protocol import MIN_ROUNDS, Measurement, OneThread, benchmark, ratio
from tests.machine import Machine

SECOND_NS = 1_000_000_000


def measured(machine: Machine, **latency_ms: float) -> dict[str, Measurement]:
    candidates = {name: machine.model(name, ms) for name, ms in latency_ms.items()}
    return benchmark(candidates, min_seconds=0, max_seconds=60, clock=machine.clock)


def test_quiet_machine_is_measured_exactly():
    found = measured(Machine(), slow=4.0, fast=2.0)
    assert found["slow"].median_ms == pytest.approx(4.0, rel=1e-9)
    assert found["fast"].p95_ms == pytest.approx(2.0, rel=1e-9)
    speedup = ratio(found["slow"], found["fast"])
    assert (speedup.ci_low, speedup.value, speedup.ci_high) == pytest.approx((2.0, 2.0, 2.0), rel=1e-9)
    assert len(found["slow"].blocks_ms) == MIN_ROUNDS
    assert found["slow"].set_aside == 0


def test_candidates_alternate_in_blocks_and_in_random_order():
    machine = Machine()
    measured(machine, a=1.0, b=1.0, c=1.0)
    turns = [(name, len(list(runs))) for name, runs in groupby(machine.calls)]
    assert all(100 <= runs <= 2 * 152 for _, runs in turns)
    warm_up, *rounds = [tuple(name for name, _ in turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert warm_up == ("a", "b", "c")
    assert len(set(rounds)) > 1


def test_a_cold_cache_does_not_count():
    machine = Machine()
    candidates = {"big": machine.model("big", 3.0, cold_ms=20.0), "small": machine.model("small", 1.0, cold_ms=5.0)}
    found = benchmark(candidates, min_seconds=0, max_seconds=60, clock=machine.clock)
    assert found["big"].median_ms == pytest.approx(3.0, rel=1e-9)
    assert found["big"].p95_ms == pytest.approx(3.0, rel=1e-9)


def test_a_slow_model_is_run_once_a_block():
    machine = Machine()
    found = measured(machine, slow=900.0)
    assert found["slow"].runs == MIN_ROUNDS
    assert len(machine.calls) == MIN_ROUNDS + 1


def test_six_rounds_are_run_whatever_the_limit():
    machine = Machine(run_noise=0.5)
    found = benchmark({"a": machine.model("a", 400.0)}, min_seconds=0, max_seconds=0.1, clock=machine.clock)
    assert len(found["a"].blocks_ms) == MIN_ROUNDS


def test_a_noisy_machine_is_measured_for_longer_until_the_limit():
    def jump(now_ns: int) -> float:
        return 1.0 + 0.4 * (hash(now_ns // (SECOND_NS // 10)) * 2654435761 % 97) / 97

    quiet, noisy = Machine(), Machine(slowdown=jump)
    measured(quiet, a=2.0)
    found = measured(noisy, a=2.0)
    assert noisy.now_ns > 2 * quiet.now_ns
    assert noisy.now_ns < 61 * SECOND_NS
    assert found["a"].ci_low_ms < found["a"].median_ms < found["a"].ci_high_ms


def test_what_is_left_open_is_measured_for_twice_as_long():
    asked = []

    def undecided(found: dict[str, Measurement]) -> bool:
        asked.append(found["a"].runs)
        return True

    machine = Machine()
    found = benchmark(
        {"a": machine.model("a", 2.0)}, min_seconds=0, max_seconds=2.0, undecided=undecided, clock=machine.clock
    )
    assert len(asked) == 1
    assert 4 * SECOND_NS <= machine.now_ns < 5 * SECOND_NS
    assert found["a"].runs > asked[0]


def test_drift_cancels_in_the_ratio_and_is_told():
    machine = Machine(slowdown=lambda now_ns: 1.0 + 0.05 * now_ns / SECOND_NS)
    candidates = {"slow": machine.model("slow", 3.0), "fast": machine.model("fast", 2.0)}
    found = benchmark(candidates, min_seconds=8, max_seconds=8, clock=machine.clock)
    speedup = ratio(found["slow"], found["fast"])
    assert speedup.value == pytest.approx(1.5, rel=0.01)  # a block later, the machine is 0.75% slower
    assert found["slow"].drift > 0.1
    assert found["slow"].ci_high_ms / found["slow"].ci_low_ms > 1.1


def test_rounds_without_the_processor_are_set_aside():
    machine = Machine(denied=lambda now_ns: 0.5 if now_ns // SECOND_NS % 2 else 0.0)
    candidates = {"a": machine.model("a", 2.0), "b": machine.model("b", 1.0)}
    found = benchmark(candidates, min_seconds=10, max_seconds=10, clock=machine.clock)
    assert found["a"].set_aside > 0
    assert found["a"].set_aside == found["b"].set_aside
    assert found["a"].ci_high_ms == pytest.approx(2.0, rel=1e-9)


def test_a_device_that_needs_no_processor_keeps_its_rounds():
    machine = Machine(denied=lambda now_ns: 0.9 if now_ns // SECOND_NS % 2 else 0.8)
    found = benchmark({"a": machine.model("a", 2.0)}, min_seconds=5, max_seconds=5, clock=machine.clock)
    assert found["a"].set_aside == 0


def test_one_thread_is_timed_without_the_time_it_was_denied():
    machine = Machine(denied=lambda now_ns: 0.5 + 0.3 * (now_ns // 7_000_000 % 2))
    candidates = {name: OneThread(machine.model(name, ms)) for name, ms in (("a", 10.0), ("b", 0.5))}
    found = benchmark(candidates, min_seconds=5, max_seconds=5, clock=machine.clock)
    assert found["a"].median_ms == pytest.approx(10.0, rel=1e-9)
    assert ratio(found["a"], found["b"]).value == pytest.approx(20.0, rel=1e-9)
    assert found["a"].set_aside == 0
    assert 0.5 < found["a"].denied < 0.8


def test_one_thread_prefers_quiet_rounds():
    machine = Machine(denied=lambda now_ns: 0.5 if now_ns // SECOND_NS % 2 else 0.0)
    found = benchmark({"a": OneThread(machine.model("a", 2.0))}, min_seconds=10, max_seconds=10, clock=machine.clock)
    assert found["a"].set_aside > 0
    assert found["a"].denied == 0.0


def test_progress_grows_to_one():
    told: list[float] = []
    machine = Machine(run_noise=0.3)
    benchmark({"a": machine.model("a", 2.0)}, min_seconds=3, max_seconds=9, clock=machine.clock, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert told[0] > 0


@pytest.mark.parametrize(
    "settings", [{"block_s": 0.0}, {"min_seconds": 3.0, "max_seconds": 2.0}, {"precision": 0.0}, {"min_seconds": -1.0}]
)
def test_settings_without_sense_are_refused(settings: dict[str, float]):
    with pytest.raises(ValueError, match="benchmark needs"):
        benchmark({"a": lambda: None}, **settings)


def test_no_candidate_is_refused():
    with pytest.raises(ValueError, match="at least one candidate"):
        benchmark({})


def test_unpaired_measurements_have_no_ratio():
    short = Measurement(1.0, 1.0, 1.0, 1.0, 10, (1.0,) * 6)
    long = Measurement(1.0, 1.0, 1.0, 1.0, 10, (1.0,) * 7)
    with pytest.raises(ValueError, match="do not pair"):
        ratio(short, long)
