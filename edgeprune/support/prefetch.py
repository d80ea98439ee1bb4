"""Use a second core in a streaming pass: one thread computes the next batch while the caller works on this one.

onnxruntime, file reads and NumPy's matrix multiplications release Python's global lock, so a thread is enough. Items
are computed in the same order and in the same way as without it, so results do not depend on the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from edgeprune.support.processor import available_cores

T = TypeVar("T")
R = TypeVar("R")

MOST_WORKERS = 4
"""Each worker needs memory for the activations of one batch."""

_END = object()


def prefetch(items: Iterable[T]) -> Iterator[T]:
    """The same items; another thread computes the next one while the caller works on this one.

    At most two items exist at a time. An exception of an item is raised where the item would have come.
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
    """``work(item)`` for every item, in order, on all available cores.

    Args:
        work: called from several threads at once.
        items: its arguments.
        threads: number of threads that one call uses itself.
    """
    workers = min(available_cores() // max(threads, 1), MOST_WORKERS, len(items))
    if workers < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))
