"""Threads of the BLAS libraries: all cores, their default, are slower here than one.

NumPy and SciPy each bring a BLAS with its own thread pool. Its threads spin for a while after a matrix multiplication.
A least-squares fit alternates between the two libraries, and their pools then block each other: on two cores a small
multiplication takes ten times as long as on one thread. :mod:`edgeprune.support.prefetch` uses the other cores instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

from edgeprune.support.processor import available_cores

SHARE = 4
"""Cores for each thread of a pool: two pools, and the work beside them, always fit."""


@contextmanager
def shared_cores() -> Iterator[None]:
    """Limit both pools together to half of the cores, in this context or in the decorated function."""
    import scipy.linalg  # noqa: F401  # only loaded libraries can be limited

    pools = ThreadpoolController().select(user_api="blas")
    most = min((pool.num_threads for pool in pools.lib_controllers), default=1)
    with pools.limit(limits=min(most, max(1, available_cores() // SHARE))):
        yield
