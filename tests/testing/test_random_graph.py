"""Open axes of random graphs: the groups are those of the fixed sizes, and the pruned model runs at several sizes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeprune.dependency import Analysis, analyse
from edgeprune.passes.prune import masked, prune_channels
from edgeprune.testing.oracle import random_cut, run
from edgeprune.testing.random_graph import random_model

SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "derandomize": True}
TOKENS, IMAGES = [(0,)], [(2,), (2, 3), (0, 2, 3)]
"""Open axes of models with tokens, whose number is fixed, and of models without."""


def hold(seed: int, steps: int, tokens: bool, axes: Collection[int]) -> None:
    fixed = analyse(random_model(seed, steps, tokens=tokens))
    model = random_model(seed, steps, tokens=tokens, open_axes=axes)
    analysis = analyse(model)
    assert _groups(analysis) == _groups(fixed)
    rng = np.random.default_rng(seed)
    cut = random_cut(analysis, rng)
    pruned, dense = prune_channels(model, analysis, cut), masked(model, analysis, cut)
    for sizes in ((2, 3, 4, 4), (3, 3, 6, 8)):
        shape = [size if k in axes else d for k, (size, d) in enumerate(zip(sizes, (2, 3, 4, 4), strict=True))]
        feeds = {"input0": rng.standard_normal(shape).astype(np.float32)}
        for ours, theirs in zip(run(pruned, feeds), run(dense, feeds), strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * max(1.0, np.abs(theirs).max()))


def _groups(analysis: Analysis) -> Counter[object]:
    """Kind and size of each group, and role, axis and length of its weights; names depend on the targets."""
    return Counter(
        (g.kind, g.size, tuple(sorted((m.role, m.axis, len(m.unit)) for m in g.members if m.role != "activation")))
        for g in analysis.groups
    )


@pytest.mark.parametrize("axes", IMAGES)
def test_a_shuffle_behind_a_pixel_shuffle(axes: tuple[int, ...]) -> None:
    """The height behind the pixel shuffle, 2*(h//2), is the one that the target of the Reshape has."""
    hold(4, 3, False, axes)


@settings(max_examples=10, **SETTINGS)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 8), axes=st.sampled_from([*TOKENS, *IMAGES]))
def test_open_axes(seed: int, steps: int, axes: tuple[int, ...]) -> None:
    hold(seed, steps, axes in TOKENS, axes)


@pytest.mark.slow
@settings(max_examples=400, **SETTINGS)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 20), axes=st.sampled_from([*TOKENS, *IMAGES]))
def test_many_open_axes(seed: int, steps: int, axes: tuple[int, ...]) -> None:
    hold(seed, steps, axes in TOKENS, axes)
