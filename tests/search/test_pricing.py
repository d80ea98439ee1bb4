"""Ranges and calibrators that pricing finds."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from edgeprune.build.x86_builder import X86Builder
from edgeprune.calibration.array_cache import ArrayCache
from edgeprune.dependency.solve import analyse
from edgeprune.latency.block_network import network
from edgeprune.quantization.ranges import CALIBRATORS
from edgeprune.search.pricing import Pricer, typical_ranges
from edgeprune.support import Progress
from edgeprune.testing.oracle import parse
from tests.small_models import calibration

TEXT = """
g (float[n, 4, 8, 8] x) => (float[n, 16, 8, 8] y) {
  h = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(h)
  y = Conv<pads=[1, 1, 1, 1]>(r, w2)
}
"""


def test_the_calibrators_of_the_whole_network_are_told_to_the_builder_and_cached(tmp_path: Path) -> None:
    model = parse(TEXT, w1=(16, 4, 3, 3), b1=(16,), w2=(16, 16, 3, 3))
    net = network(model, analyse(model))
    samples = np.random.default_rng(0).standard_normal((32, 4, 8, 8)).astype(np.float32)
    found = []
    for _ in range(2):
        builder = X86Builder(model, net, {}, calibration(x=samples))
        ranges = typical_ranges(model, net, builder.data, builder, ArrayCache("model", tmp_path / "known.sqlite"))
        assert set(builder.calibrators) == set(ranges) >= {"x", "r"}
        assert set(builder.calibrators.values()) <= set(CALIBRATORS)
        found.append((ranges, dict(builder.calibrators)))
    assert found[0] == found[1]


def test_the_builder_knows_the_calibrators_even_if_the_losses_of_formats_are_cached(tmp_path: Path) -> None:
    model = parse(TEXT, w1=(16, 4, 3, 3), b1=(16,), w2=(16, 16, 3, 3))
    net = network(model, analyse(model))
    data = calibration(x=np.random.default_rng(0).standard_normal((32, 4, 8, 8)).astype(np.float32))
    cache = ArrayCache("model", tmp_path / "known.sqlite")
    latency = cast(Any, SimpleNamespace(formats=lambda block: ("fp32", "int8")))
    found = []
    for _ in range(2):
        builder = X86Builder(model, net, {}, data)
        losses = Pricer(model, net, {}, data, builder, 1, Progress(), cache, cache).formats(latency)
        found.append((losses, dict(builder.calibrators)))
    assert found[0][1]
    assert found[0] == found[1]
