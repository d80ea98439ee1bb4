"""Random graphs, random cuts: the pruned model equals the dense one with the removed inputs zeroed."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeprune.randomgraph import random_model
from edgeprune.solve import analyse
from edgeprune.testing import error, random_cut

SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "derandomize": True}


def hold(seed: int, steps: int) -> None:
    model = random_model(seed, steps)
    analysis = analyse(model)
    cut = random_cut(analysis, np.random.default_rng(seed))
    assert error(model, analysis, cut) <= 1e-4  # float32 sums in another order; a wrong unit differs by 1e-2 and more


@settings(max_examples=40, **SETTINGS)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 12))
def test_random_graphs(seed: int, steps: int) -> None:
    hold(seed, steps)


@pytest.mark.slow
@settings(max_examples=1500, **SETTINGS)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 25))
def test_many_random_graphs(seed: int, steps: int) -> None:
    hold(seed, steps)
