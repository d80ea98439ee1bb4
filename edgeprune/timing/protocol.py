"""The timing protocol: candidates take turns in short blocks, and every latency has a 95% interval.

Why blocks: a model that runs right after another one finds its weights evicted from the cache. A deployed model does
not run so, hence single runs must not alternate. Why turns: the speed of a shared machine drifts, so measurements that
are seconds apart cannot be compared. A *round* gives every candidate one block of about 0.15 s, in random order. The
first run of a block warms the caches again and is not counted. The median summarises a block, the latency is the
median of the blocks, and the ratio of two candidates is the median over the rounds of the ratio of their two blocks,
which cancels what slowed the whole round.

Other processes use the machine too. Rounds in which the operating system gave the process less of the processor than
in quiet rounds are set aside for all candidates. This depends on processor time, never on latency, so it does not
favour a result. If too few quiet rounds are left, a run on a single thread is timed by that thread's processor time,
which excludes the time that other processes had the processor; for several threads there is no such clock.
"""

from __future__ import annotations

import contextlib
import gc
import math
import random
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from edgeprune.timing.intervals import median_interval
from edgeprune.timing.tail import Tail, tail_of

MIN_ROUNDS = 6
"""Fewest rounds: with fewer than six values no interval of order statistics covers the median with 95%."""

LEAST_TURN_S, MOST_TURN_S, RUNS_PER_TURN = 0.04, 0.15, 6
"""Turns of this many runs of the original, within these bounds. With short turns a change of the machine's speed
affects all candidates alike."""

_CPU_BOUND_SHARE = 0.9
_QUIET_SHARE = 0.95


@dataclass(frozen=True)
class Ratio:
    """One latency over another, unitless, with the bounds of its 95% interval."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Measurement:
    """The latency of one candidate; all times in milliseconds.

    Attributes:
        median_ms: Median of ``blocks_ms``.
        p95_ms: 95th percentile of single runs.
        ci_low_ms: Lower bound of the 95% interval of the median.
        ci_high_ms: Upper bound.
        runs: Timed runs that count.
        blocks_ms: Median run of every round that counts, in order of time. Candidates of one ``benchmark`` call have
            the same number, paired by position.
        set_aside: Rounds that do not count because the process was denied the processor.
        denied: Fraction of the time for which a model that runs on one thread was denied the processor in the rounds
            that count; the latencies exclude it.
        drift: Last third of the blocks over the first third, minus 1 (0.1: became 10% slower).
        tail: 99th percentile of single runs; None in reports of before.
    """

    median_ms: float
    p95_ms: float
    ci_low_ms: float
    ci_high_ms: float
    runs: int
    blocks_ms: tuple[float, ...]
    set_aside: int = 0
    denied: float = 0.0
    drift: float = 0.0
    tail: Tail | None = None


@dataclass(frozen=True)
class Clock:
    """The clocks of the protocol, in nanoseconds: wall time, and processor time of this process and of this thread."""

    wall_ns: Callable[[], int] = time.perf_counter_ns
    process_ns: Callable[[], int] = time.process_time_ns
    thread_ns: Callable[[], int] = time.thread_time_ns


@dataclass(frozen=True)
class OneThread:
    """A candidate that does all its work on the thread that calls it."""

    run: Callable[[], object]

    def __call__(self) -> object:
        """Run it once."""
        return self.run()


@dataclass(frozen=True)
class _Block:
    """Runs of one turn: wall and processor time of each, nanoseconds."""

    wall_ns: array[int]
    busy_ns: array[int]
    one_thread: bool

    @property
    def busy_share(self) -> float:
        return sum(self.busy_ns) / max(1, sum(self.wall_ns))

    def times_ns(self) -> Iterator[int]:
        """The time of every run, without the time that it was denied the processor if that is known."""
        for wall, busy in zip(self.wall_ns, self.busy_ns, strict=True):
            yield max(1, busy if self.one_thread and busy < _QUIET_SHARE * wall else wall)

    @cached_property
    def median_ns(self) -> float:
        return median(self.times_ns())


def benchmark(
    candidates: Mapping[str, Callable[[], object]],
    *,
    min_seconds: float = 1.0,
    max_seconds: float = 10.0,
    block_s: float = 0.15,
    precision: float = 0.01,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    undecided: Callable[[Mapping[str, Measurement]], bool] | None = None,
    clock: Clock | None = None,
) -> dict[str, Measurement]:
    """Measure all candidates against each other.

    Rounds are added until every median, and every ratio to the first candidate, is known to within ``precision``, or
    ``max_seconds`` have passed; at least six rounds are run.

    Args:
        candidates: Name -> function that runs it once, a `OneThread` if it runs on one thread. The first is the
            reference of the ratios.
        min_seconds: Shortest time to measure, over all candidates together, seconds.
        max_seconds: Longest time to measure if the intervals stay wide, seconds.
        block_s: Length of one candidate's turn, seconds.
        precision: Half width of an interval, relative to its median, that is narrow enough.
        seed: Seed of the order within the rounds.
        progress: Called after every round with the fraction done, 0 to 1.
        undecided: Whether a result does not yet decide the caller's question; then rounds are added up to twice
            ``max_seconds``.
        clock: The clocks to use.

    Returns:
        Name -> measurement, in the order of ``candidates``.

    Raises:
        ValueError: There is no candidate, or the times make no sense.
    """
    if not candidates:
        raise ValueError("benchmark needs at least one candidate")
    if not (block_s > 0 and 0 <= min_seconds <= max_seconds and precision > 0):
        raise ValueError("benchmark needs 0 < block_s, 0 <= min_seconds <= max_seconds and precision > 0")
    clock = clock or Clock()
    shuffle = random.Random(seed).shuffle
    order = list(candidates)
    block_ns = int(block_s * 1e9)
    rounds: list[dict[str, _Block]] = []
    done, extended = 0.0, False
    with _no_garbage_collection():
        for run in candidates.values():
            _time_block(run, block_ns, clock)
        started_ns = clock.wall_ns()
        while True:
            shuffle(order)
            rounds.append({name: _time_block(candidates[name], block_ns, clock) for name in order})
            elapsed_s = (clock.wall_ns() - started_ns) * 1e-9
            kept = _quiet_rounds(rounds)
            width = _widest(kept, list(candidates))
            if progress is not None:
                done = max(done, _fraction_done(len(rounds), elapsed_s, min_seconds, max_seconds, width / precision))
                progress(done)
            if len(rounds) < MIN_ROUNDS or elapsed_s < min_seconds:
                continue
            if (extended or width > precision) and elapsed_s < (1 + extended) * max_seconds:
                continue
            found = {name: _summarise([r[name] for r in kept], len(rounds) - len(kept)) for name in candidates}
            if extended or undecided is None or not undecided(found):
                break
            extended = True  # always to the end: stopping at a suitable result would favour it
    if progress is not None:
        progress(1.0)
    return found


def turn_s(run_s: float) -> float:
    """Length of a turn for an original whose run takes ``run_s``; both in seconds."""
    return min(max(RUNS_PER_TURN * run_s, LEAST_TURN_S), MOST_TURN_S)


def ratio(a: Measurement, b: Measurement) -> Ratio:
    """The latency of ``a`` over that of ``b``: the speed-up of ``b``.

    Raises:
        ValueError: The two were not measured in one ``benchmark`` call, so their blocks do not pair.
    """
    if len(a.blocks_ms) != len(b.blocks_ms):
        raise ValueError(f"measurements of {len(a.blocks_ms)} and {len(b.blocks_ms)} blocks do not pair")
    logs = median_interval([math.log(x / y) for x, y in zip(a.blocks_ms, b.blocks_ms, strict=True)])
    return Ratio(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high))


def _time_block(run: Callable[[], object], block_ns: int, clock: Clock) -> _Block:
    """One candidate's turn: a run that warms the caches, then timed runs until the block is over, at least one.

    If the first run lasts longer than two blocks, it counts too: the time to refill the caches is then negligible.
    """
    one_thread = isinstance(run, OneThread)
    wall_ns, busy_ns = clock.wall_ns, clock.thread_ns if one_thread else clock.process_ns
    wall, busy = array("q"), array("q")

    def timed_run() -> int:
        busy_before, before = busy_ns(), wall_ns()
        run()
        wall.append(wall_ns() - before)
        busy.append(busy_ns() - busy_before)
        return wall[-1]

    if timed_run() < 2 * block_ns:
        wall.pop()
        busy.pop()
        left_ns = block_ns
        while left_ns > 0:
            left_ns -= timed_run()
    return _Block(wall, busy, one_thread)


def _quiet_rounds(rounds: list[dict[str, _Block]]) -> list[dict[str, _Block]]:
    """The rounds in which every processor-bound candidate got the processor; all rounds if those are too few."""
    quiet_share: dict[str, float] = {}
    for name, first in rounds[0].items():
        shares = sorted(r[name].busy_share for r in rounds)
        reference = 1.0 if first.one_thread else shares[9 * (len(shares) - 1) // 10]
        quiet_share[name] = _QUIET_SHARE * reference if reference >= _CPU_BOUND_SHARE else 0.0
    quiet = [r for r in rounds if all(block.busy_share >= quiet_share[name] for name, block in r.items())]
    return quiet if len(quiet) >= MIN_ROUNDS else rounds


def _widest(rounds: list[dict[str, _Block]], names: list[str]) -> float:
    """The largest relative half width of an interval, among all medians and all ratios to the first candidate."""
    logs = {name: [math.log(r[name].median_ns) for r in rounds] for name in names}
    reference = logs[names[0]]
    series = list(logs.values())
    series += [[a - b for a, b in zip(logs[name], reference, strict=True)] for name in names[1:]]
    intervals = [median_interval(s) for s in series]
    return max((i.high - i.low) / 2 for i in intervals)


def _fraction_done(rounds: int, elapsed_s: float, min_s: float, max_s: float, width_over_precision: float) -> float:
    """An estimate for the progress bar: intervals shrink with the square root of the time, up to the time limit."""
    by_interval = min(1.0, width_over_precision**-2) if width_over_precision > 0 else 1.0
    by_minimum = min(1.0, rounds / MIN_ROUNDS, elapsed_s / min_s if min_s > 0 else 1.0)
    by_limit = min(1.0, elapsed_s / max_s) if max_s > 0 else 1.0
    return min(by_minimum, max(by_interval, by_limit))


def _summarise(blocks: list[_Block], set_aside: int) -> Measurement:
    medians_ms = [block.median_ns * 1e-6 for block in blocks]
    log_ms = median_interval([math.log(ms) for ms in medians_ms])
    times_ns = sorted(t for block in blocks for t in block.times_ns())
    denied = [1 - block.busy_share if block.one_thread else 0.0 for block in blocks]
    third = max(1, len(blocks) // 3)
    return Measurement(
        median_ms=median(medians_ms),
        p95_ms=times_ns[math.ceil(0.95 * len(times_ns)) - 1] * 1e-6,
        ci_low_ms=math.exp(log_ms.low),
        ci_high_ms=math.exp(log_ms.high),
        runs=len(times_ns),
        blocks_ms=tuple(medians_ms),
        set_aside=set_aside,
        denied=max(0.0, sum(denied) / len(denied)),
        drift=median(medians_ms[-third:]) / median(medians_ms[:third]) - 1,
        tail=tail_of([ns * 1e-6 for ns in times_ns]),
    )


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep garbage collection out of the timed runs: its pauses do not belong to a candidate."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
