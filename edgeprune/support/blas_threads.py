"""How many threads matrix products get: the libraries' own choice of all cores is slower than one of them.

NumPy and SciPy each bring a BLAS with a pool of its own, whose threads spin for a while after a product. Where products
of both alternate, as in every least-squares fit, they hold the cores from each other: on two cores a small product then
takes ten times as long as on one thread. Work is spread over the cores by :mod:`edgeprune.support.prefetch` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

from edgeprune.support.processor import available_cores

SHARE = 4
"""Cores for each thread of a pool: two pools, and what works beside them, then always fit."""


@contextmanager
def shared_cores() -> Iterator[None]:
    """Inside, and in a function that this decorates, the pools together take at most half of the cores."""
    import scipy.linalg  # noqa: F401  # only libraries that are loaded can be told

    pools = ThreadpoolController().select(user_api="blas")
    most = min((pool.num_threads for pool in pools.lib_controllers), default=1)
    with pools.limit(limits=min(most, max(1, available_cores() // SHARE))):
        yield
