"""The loss of low rank at the outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune.build import TensorRtBuilder
from edgeprune.calibration.calibration import open_calibration
from edgeprune.dependency import analyse
from edgeprune.devices import load_profile
from edgeprune.latency import gpu_network
from edgeprune.ranks.losses import rank_losses
from tests.passes.models import run
from tests.ranks.networks import mlp, samples


def test_losses_follow_what_a_rank_loses_and_hopeless_ranks_are_left_out(tmp_path: Path) -> None:
    """Against the error of the network with one layer of that rank."""
    model = mlp(96, 192, 24)
    x = samples(96)
    np.savez(tmp_path / "x.npz", x=x)
    data = open_calibration(str(tmp_path / "x.npz"), model)
    gpu = gpu_network(model, analyse(model), load_profile("orin").device(), ("fp16",), step=32, error=0.1)
    builder = TensorRtBuilder(model, gpu.network, {}, data, float_format="fp16", versions=("10.3",))
    found = rank_losses(gpu.network, builder, data, {0: "m", 1: "k"}, {0: (4, 16, 32), 1: (32,)})
    assert found[0].keys() == {16, 32} or found[0].keys() == {32}
    assert found[0][32] < 0.01
    formats = ["fp16+r32", "fp16"]
    changed = builder.low_rank.factored(model, formats)
    (wanted,), (got,) = run(model, x=x[:1]), run(changed, x=x[:1])
    error = float(np.square(wanted - got).mean() / wanted.var())
    assert found[0][32] == pytest.approx(error, rel=1.0)
    assert builder.low_rank.factored(model, formats) is changed
