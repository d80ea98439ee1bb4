"""A network that is called twice gives the same from the same inputs, in any formats."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import simulation
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build import model_builder
from edgeprune.build.model_builder import ModelBuilder
from edgeprune.build.tensorrt_builder import TensorRtBuilder
from edgeprune.build.x86_builder import X86Builder
from edgeprune.dependency.solve import analyse
from edgeprune.devices.targets import load_profile
from edgeprune.graph.model_io import clone, infer_shapes
from edgeprune.importance import rank
from edgeprune.latency.block_network import network
from edgeprune.latency.kernel_network import gpu_network
from tests.siamese import pairs, siamese
from tests.small_models import calibration


def x86() -> ModelBuilder:
    model, data = siamese(), calibration(**pairs())
    analysis = analyse(model)
    return X86Builder(model, network(model, analysis), rank("l2", model, analysis, data, 8), data)


def tensorrt() -> ModelBuilder:
    model, data = siamese(), calibration(**pairs())
    analysis = analyse(model)
    rankings = rank("l2", model, analysis, data, 8)
    fixed = infer_shapes(clone(model), dict.fromkeys("ab", (1, 32, 6, 6)))
    found = gpu_network(fixed, analyse(fixed), load_profile("orin").device(), ("fp16", "int8"), step=16, error=0.1)
    return TensorRtBuilder(model, found.network, rankings, data, float_format="fp16", versions=("10.3",))


def run_of(builder: ModelBuilder, model: ir.Model) -> Callable[..., np.ndarray]:
    load = simulation.load if isinstance(builder, TensorRtBuilder) else lambda m, threads: OnnxRuntime(threads).load(m)
    runner = load(model, 1)
    return lambda a, b: runner.run({"a": a, "b": b})[0]


@pytest.mark.parametrize("make", [x86, tensorrt])
@pytest.mark.parametrize("seed", range(4))
def test_the_distance_of_an_input_to_itself_is_zero(make: Callable[[], ModelBuilder], seed: int) -> None:
    builder, rng = make(), np.random.default_rng(seed)
    every = [tuple(forms) for forms in builder.network.int8_nodes]
    formats = [builder.float_format] * len(every)
    for b, forms in enumerate(every):
        if "int8" in forms and (seed == 0 or rng.random() < 0.6):
            formats[b] = "int8"
    widths = builder.network.sizes.copy()
    widths[:: 1 + seed % 2] //= 2
    model = builder.build(widths, formats)
    run, x = run_of(builder, model), pairs()
    for some in (x["a"], x["b"]):
        np.testing.assert_array_equal(run(some, some), 0)
    np.testing.assert_array_equal(run(x["a"], x["b"]), run(x["b"], x["a"]))
    assert np.abs(run(x["a"], x["b"])).max() > 0.1
    if seed == 0:
        assert builder.int8_nodes(builder.dense, formats) >= {"node_0", "node_7"}


@pytest.mark.parametrize("make", [x86, tensorrt])
def test_the_int8_form_of_a_shared_weight_is_stored_once(make: Callable[[], ModelBuilder]) -> None:
    builder = make()
    formats = ["int8" if "int8" in forms else builder.float_format for forms in builder.network.int8_nodes]
    model = builder.build(builder.network.sizes, formats)
    stored = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.INT8 and len(v.shape or ()) > 1]
    shapes = sorted(tuple(map(int, v.shape)) for v in stored)
    assert shapes.count((32, 32, 3, 3)) == 2
    assert len(shapes) <= 3


@pytest.mark.parametrize(("most_bytes", "builds"), [(1 << 30, 2), (0, 3)])
def test_built_models_are_kept_while_they_are_small(
    most_bytes: int, builds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_builder, "CACHED_BYTES", most_bytes)
    builder, made = x86(), list[ir.Model]()
    lowered = X86Builder.lowered
    monkeypatch.setattr(X86Builder, "lowered", lambda *a: made.append(lowered(*a)) or made[-1])
    floating = [builder.float_format] * len(builder.network.int8_nodes)
    quantized = ["int8" if "int8" in forms else builder.float_format for forms in builder.network.int8_nodes]
    for formats in (floating, quantized, floating, floating):
        assert builder.build(builder.network.sizes, formats) is made[0 if builds == 2 and formats is floating else -1]
    assert len(made) == builds
