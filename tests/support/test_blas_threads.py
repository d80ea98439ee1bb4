"""Pools of threads that hold the cores from each other are kept small, and are as they were afterwards."""

import pytest
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController

from edgeprune.support import blas_threads as blas
from edgeprune.support.blas_threads import shared_cores


def pools() -> list[int]:
    found = ThreadpoolController().select(user_api="blas").lib_controllers
    return [pool.num_threads for pool in found]


@pytest.mark.parametrize(("cores", "most"), [(1, 1), (2, 1), (8, 2)])
def test_pools_take_a_share_of_the_cores_and_never_more_than_they_had(
    cores: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blas, "available_cores", lambda: cores)
    before = pools()
    with shared_cores():
        assert all(now <= min(most, then) for now, then in zip(pools(), before, strict=True))
    assert pools() == before


def test_a_failure_leaves_the_pools_as_they_were() -> None:
    before = pools()

    @shared_cores()
    def fails() -> None:
        raise ValueError("of the work itself")

    with pytest.raises(ValueError, match="of the work itself"):
        fails()
    assert pools() == before
