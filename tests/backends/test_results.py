from __future__ import annotations

import pytest

from edgeprune.backends.results import measurement_of
from edgeprune.errors import BackendError


def test_blocks_are_summarised_as_the_timing_protocol_does():
    found = measurement_of([[1.0, 2.0, 3.0], [2.0], [4.0, 2.0, 3.0], [3.0, 3.0], [2.0, 2.5], [2.0]])
    assert found.blocks_ms == (2.0, 2.0, 3.0, 3.0, 2.25, 2.0)
    assert found.median_ms == 2.125
    assert found.runs == 12
    assert found.p95_ms == 4.0
    assert found.ci_low_ms <= found.median_ms <= found.ci_high_ms
    assert found.drift == pytest.approx(2.125 / 2.0 - 1)


@pytest.mark.parametrize("blocks", [[], [[]], [[1.0, float("nan")]], [[0.0]], [[-1.0]], [[float("inf")]]])
def test_times_that_are_none_are_refused(blocks: list[list[float]]):
    with pytest.raises(BackendError, match="no usable times"):
        measurement_of(blocks)
