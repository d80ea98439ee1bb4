"""The surgeon in float32, for wide layers."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.importance import surgeon
from edgeprune.importance.surgeon import Surgeon
from edgeprune.importance.sweep import sweep


def test_in_float32_the_same_units_go_at_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strongly correlated features: 96 units of three features each, and some 40 directions that matter."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 288)) * np.exp(-np.arange(288) / 40) @ rng.standard_normal((288, 288))
    covariance = np.cov(x.T, bias=True).astype(np.float32)
    matrix = rng.standard_normal((16, 288))
    found = []
    for limit in (288, 287):
        monkeypatch.setattr(surgeon, "DOUBLE_PRECISION_FEATURES", limit)
        state = Surgeon.of(covariance, matrix, np.repeat(np.arange(96, dtype=np.int32), 3), 1.0, 1e-2)
        kept: list[np.ndarray] = []

        def keep(left: np.ndarray, state: Surgeon = state, kept: list[np.ndarray] = kept) -> None:
            if len(left) == 24:
                kept.append(state.left)

        found.append((state.inverse.dtype, sweep([state], 96, 8, keep), kept[0]))
    (_, exact, wanted), (dtype, single, refitted) = found
    assert dtype == np.float32
    np.testing.assert_array_equal(single.order, exact.order)
    np.testing.assert_allclose(single.loss, exact.loss, rtol=1e-3)
    np.testing.assert_allclose(refitted, wanted, atol=2e-3 * np.abs(wanted).max())
