"""A second core's share of a streaming pass: the next batch is computed while the one before is worked on.

onnxruntime, the reading of files and numpy's products leave Python's lock alone while they work, so a thread is enough.
Every item is computed as it would be without it, in the same order: results do not depend on the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgeprune.support.processor import available_cores

T = TypeVar("T")
R = TypeVar("R")

MOST_WORKERS = 4
"""Each holds the activations of a batch."""

_END = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The same items; each is computed in another thread while the caller works on the one before.

    At most two exist at a time. What computing one raises is raised where the item would have come.
    """
    if available_cores() < 2:
        yield from items
        return
    source = iter(items)
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, source, _END)
        while (item := coming.result()) is not _END:
            coming = worker.submit(next, source, _END)
            yield item  # type: ignore[misc]


def run_in_parallel(work: Callable[[T], R], items: Sequence[T], threads: int = 1) -> list[R]:
    """``work`` of every item, in order, on as many cores as there are.

    Args:
        work: may be called by several threads at once.
        items: what it is called for.
        threads: that it uses itself.
    """
    workers = min(available_cores() // max(threads, 1), MOST_WORKERS, len(items))
    if workers < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))
