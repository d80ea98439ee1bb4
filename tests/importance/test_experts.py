"""Experts are ranked by the router's weight times the norm of their outputs."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.importance import rank
from edgeprune.importance.context import Context
from edgeprune.importance.experts import expert_scores
from tests.experts import EXPERTS, TOKENS, WIDTH, mixture
from tests.small_models import calibration


@pytest.mark.parametrize("einsum", [False, True])
def test_scores_are_weights_times_norms(einsum: bool) -> None:
    model = mixture(sparse=False, einsum=einsum)
    analysis = analyse(model, allow_statistic=True)
    group = next(g for g in analysis.groups if g.size == EXPERTS)
    x = np.random.default_rng(0).standard_normal((16, TOKENS, WIDTH)).astype(np.float32)
    data = calibration(x=x)
    w = {n: v.const_value.numpy().astype(np.float64) for n, v in model.graph.initializers.items() if v.const_value}
    logits = x @ w["wr"] + w["rb"]
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = expert_scores(Context(model, analysis.groups, data), analysis.groups)[group.id]
    if einsum:
        norms = np.sqrt([sum((w[n][e] ** 2).sum() for n in ("w1", "w2")) for e in range(EXPERTS)])
        ratios = found / (p.mean((0, 1)) * norms)
        assert ratios.max() / ratios.min() < 1.2  # the router's column counts to an expert's weights, too
        return
    outputs = np.maximum(x[:, None] @ w["w1"] + w["b1"], 0) @ w["w2"] + w["b2"]
    norms = np.linalg.norm(outputs, axis=-1).transpose(0, 2, 1)
    expected = (p * norms).mean((0, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for criterion in ("obs", "flap"):
        assert rank(criterion, model, analysis, data)[group.id].order.tolist() == np.argsort(expected).tolist()
