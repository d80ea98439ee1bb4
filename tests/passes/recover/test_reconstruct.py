"""Reconstruction against the dense network, on networks small enough to learn in a second."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.calibration import Calibration, open_calibration
from edgeprune.dependency.solve import analyse
from edgeprune.graph import model_io as graph
from edgeprune.graph.declarations import warnings_of
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.recover.compensate import compensate
from edgeprune.passes.recover.reconstruct import ReconstructSettings, reconstruct, split_for_learning
from edgeprune.recovery.distillation import Kept, find_distillation_spec, trainable
from edgeprune.recovery.output_error import Probe
from tests.small_models import build, calibration, class_scores, classifier, images, normal

QUICK = ReconstructSettings(most_epochs=12, learning_rate=1.0, most_learning_rate=5e-3, inner_share=0.1)


def learned(
    dense: ir.Model, compressed: ir.Model, data: Calibration, kept: Kept, settings: ReconstructSettings = QUICK
) -> ir.Model | None:
    fit, evaluator = split_for_learning(dense, data, settings)
    return reconstruct(dense, compressed, fit, evaluator, kept=kept, settings=settings)


def cut_in_half(dense: ir.Model) -> tuple:
    analysis = analyse(dense)
    cut = {g.id: np.arange(0, g.size, 2) for g in analysis.groups}
    return analysis, cut, prune_channels(dense, analysis, cut)


def test_it_recovers_more_than_compensation_alone() -> None:
    dense = classifier()
    analysis, cut, pruned = cut_in_half(dense)
    data = calibration(x=images(512))
    compensated = compensate(dense, pruned, analysis, cut, data)
    result = learned(dense, compensated, data, analysis.kept(cut))
    unseen = Probe(dense, calibration(x=images(256, seed=9)), 256, 1)
    assert unseen.error(result) < 0.93 * unseen.error(compensated)


def test_only_values_of_weights_change() -> None:
    dense = classifier()
    analysis, cut, pruned = cut_in_half(dense)
    before = graph.to_bytes(pruned)
    result = learned(dense, pruned, calibration(x=images()), analysis.kept(cut))
    assert graph.to_bytes(pruned) == before
    assert [n.op_type for n in result.graph] == [n.op_type for n in pruned.graph]
    shapes = [{n: tuple(v.shape) for n, v in m.graph.initializers.items()} for m in (result, pruned)]
    assert shapes[0] == shapes[1]


def test_a_step_that_does_not_help_is_undone() -> None:
    dense = classifier()
    analysis, cut, pruned = cut_in_half(dense)
    wild = ReconstructSettings(learning_rate=1e6, most_learning_rate=1e3, most_epochs=1)
    result = learned(dense, pruned, calibration(x=images()), analysis.kept(cut), wild)
    assert result is None
    (said,) = warnings_of(pruned)
    assert said.startswith("learned weights of")
    assert said.endswith("farther from the original's with them")


def test_the_same_seed_gives_the_same_weights() -> None:
    dense = classifier()
    analysis, cut, pruned = cut_in_half(dense)
    data = calibration(x=images(32))
    short = ReconstructSettings(most_epochs=2)
    twice = [learned(dense, pruned, data, analysis.kept(cut), short) for _ in range(2)]
    assert graph.to_bytes(twice[0]) == graph.to_bytes(twice[1])


def test_a_batch_that_is_fixed_to_one() -> None:
    dense = classifier("float[1,5] y", batch="1")
    analysis, cut, pruned = cut_in_half(dense)
    data = calibration(x=images(128), batch_size=1)
    data = replace(data, axes=replace(data.axes, joins=False))
    result = learned(dense, pruned, data, analysis.kept(cut))
    x = images(1, seed=9)
    runs = [OnnxRuntime(1).load(graph.to_bytes(m)).run({"x": x})[0] for m in (dense, pruned, result)]
    assert np.abs(runs[2] - runs[0]).sum() < np.abs(runs[1] - runs[0]).sum()


def recurrent(joined: bool) -> ir.Model:
    """A convolution along lines, a recurrent layer that puts the time first, and a head that people leave there."""
    end = "y = Transpose<perm=[1,0,2]>(m)" if joined else "y = Identity(m)"
    return build(
        f"""g (float[n,3,9] x) => (float[a,b,5] y) {{
            a = Conv<pads=[1,1]>(x, w1) b = Relu(a) c = Conv<pads=[1,1]>(b, w2) d = Relu(c)
            t = Transpose<perm=[2,0,1]>(d)
            l, state = LSTM<hidden_size=6>(t, lw, lr)
            s = Squeeze(l, one)
            m = MatMul(s, w3)
            {end}
        }}""",
        w1=normal(16, 3, 3),
        w2=normal(16, 16, 3),
        lw=normal(1, 24, 16),
        lr=normal(1, 24, 6),
        w3=normal(6, 5),
        integers={"one": [1]},
    )


@pytest.mark.parametrize("joined", [True, False], ids=["samples first", "time first"])
def test_networks_with_the_time_first_learn(joined: bool, tmp_path: Path) -> None:
    dense = recurrent(joined)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).standard_normal((128, 3, 9)).astype(np.float32))
    data = open_calibration(str(tmp_path / "x.npz"), dense)
    assert data.batchable == joined
    assert data.axes.outputs == {"y": 0 if joined else 1}
    analysis, cut, pruned = cut_in_half(dense)
    compensated = compensate(dense, pruned, analysis, cut, data)
    spec = find_distillation_spec(
        dense, graph.infer_shapes(graph.clone(compensated), {"x": (1, 3, 9)}), analysis.kept(cut), data, 0.1
    )
    assert {c.name for c in spec.compared} >= {"y", "c"}
    result = learned(dense, compensated, data, analysis.kept(cut)) or compensated
    probes = [Probe(dense, data, 64, 1).error(m) for m in (pruned, compensated, result)]
    assert probes[0] > probes[1] >= probes[2]


def test_a_network_too_large_for_the_work_is_left_as_it_is() -> None:
    dense = classifier()
    analysis, cut, pruned = cut_in_half(dense)
    little = replace(QUICK, work_macs=1e4)
    result = learned(dense, pruned, calibration(x=images()), analysis.kept(cut), little)
    assert result is None


def test_small_batches_and_threads_add_up_to_a_large_one() -> None:
    dense = classifier()
    analysis, cut, pruned = cut_in_half(dense)
    data, kept = calibration(x=images(64)), analysis.kept(cut)
    unseen = Probe(dense, calibration(x=images(64, seed=9)), 64, 1)
    errors = []
    for activation_bytes, threads in ((1, 1), (1 << 30, 1), (1 << 30, 2)):
        settings = replace(QUICK, most_epochs=2, activation_bytes=activation_bytes, threads=threads)
        errors.append(unseen.error(learned(dense, pruned, data, kept, settings)))
    assert errors[0] < 0.8 * unseen.error(pruned)
    assert abs(errors[0] / errors[1] - 1) < 0.02
    assert abs(errors[2] / errors[1] - 1) < 0.02


def test_learned_weights_and_compared_values() -> None:
    dense = classifier()
    analysis, cut, pruned = cut_in_half(dense)
    assert trainable(pruned) == ["w1", "b1", "w2", "b2", "w3", "b3"]
    fixed = graph.infer_shapes(graph.clone(pruned), {"x": (8, 3, 8, 8)})
    spec = find_distillation_spec(dense, fixed, analysis.kept(cut), class_scores(calibration(x=images(8))), 0.5)
    assert [(t.name, t.measure) for t in spec.compared] == [("y", "divergence"), ("a", "square"), ("c", "square")]
    assert spec.compared[1].wanted(np.zeros((2, 16, 8, 8))).shape == (2, 8, 8, 8)


def test_deep_networks_are_compared_behind_a_few_layers_spread_over_them() -> None:
    layers = " ".join(f"a{i} = MatMul({f'r{i - 1}' if i else 'x'}, w{i}) r{i} = Relu(a{i})" for i in range(40))
    text = f"g (float[n,4] x) => (float[n,4] y) {{ {layers} y = MatMul(r39, v) }}"
    model = build(text, v=normal(4, 4), **{f"w{i}": normal(4, 4) + np.eye(4, dtype=np.float32) for i in range(40)})
    fixed = graph.infer_shapes(graph.clone(model), {"x": (2, 4)})
    spec = find_distillation_spec(model, fixed, {}, calibration(x=normal(8, 4)), 1.0)
    assert [t.name for t in spec.compared] == ["y", *(f"a{i}" for i in range(2, 40, 3))]


def test_a_value_whose_shape_is_not_explained_is_left_out() -> None:
    dense = classifier()
    _, _, pruned = cut_in_half(dense)
    fixed = graph.infer_shapes(graph.clone(pruned), {"x": (8, 3, 8, 8)})
    spec = find_distillation_spec(dense, fixed, {}, calibration(x=images(8)), 0.5)
    assert [t.name for t in spec.compared] == ["y"]


def test_evenly_spaced_weights_are_left_alone() -> None:
    model = build(
        "g (float[n,4] x) => (float[n,1] y) { h = MatMul(x, w) y = MatMul(h, bins) }",
        w=normal(4, 8),
        bins=np.arange(8, dtype=np.float32)[:, None],
    )
    assert trainable(model) == ["w"]


def test_an_old_opset_is_no_obstacle() -> None:
    dense = build(
        """g (float[n,3,8,8] x) => (float[n,4] y) {
            a = Conv(x, w1) r = Relu(a) m = MaxPool<kernel_shape=[2,2]>(r)
            c = Conv(m, w2) p = GlobalAveragePool(c) y = Flatten(p)
        }""",
        w1=normal(8, 3, 3, 3),
        w2=normal(4, 8, 3, 3),
    )
    dense.graph.opset_imports[""] = 13
    analysis = analyse(dense)
    cut = {g.id: np.arange(0, g.size, 2) for g in analysis.groups}
    pruned = prune_channels(dense, analysis, cut)
    data = calibration(x=images(64))
    result = learned(dense, pruned, data, analysis.kept(cut))
    assert result.graph.opset_imports[""] == 13
    unseen = Probe(dense, calibration(x=images(64, seed=9)), 64, 1)
    assert unseen.error(result) < 0.9 * unseen.error(pruned)
