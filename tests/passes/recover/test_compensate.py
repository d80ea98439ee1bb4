import re

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibration.fidelity import Fidelity
from edgeprune.dependency.solve import analyse
from edgeprune.errors import CalibrationError
from edgeprune.graph import model_io as graph
from edgeprune.graph.declarations import warnings_of
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.recover.compensate import compensate
from edgeprune.passes.recover.refit_samples import CompensateSettings
from edgeprune.passes.recover.refit_targets import find_targets
from edgeprune.recovery.layer_rows import Sampling
from edgeprune.report import OutputScore
from tests.models import single
from tests.small_models import build, calibration, normal, two_convolutions


def images(count: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def run(model: ir.Model, **feeds: np.ndarray) -> np.ndarray:
    return OnnxRuntime(1).load(model).run(feeds)[0]


def prune_first(dense: ir.Model, keep: np.ndarray, group: int = 0) -> tuple:
    analysis = analyse(dense)
    cut = {analysis.groups[group].id: keep}
    return analysis, cut, prune_channels(dense, analysis, cut)


def relative_error(wanted: np.ndarray, got: np.ndarray) -> float:
    return float(((wanted - got) ** 2).mean() / wanted.var())


def test_linearly_dependent_channels_are_removed_without_loss() -> None:
    first = normal(8, 3, 3, 3)
    first[4:] = np.array([0.5, 2.0, 1.0, 3.0], np.float32)[:, None, None, None] * first[:4]
    dense = two_convolutions(first, normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(4))
    result = compensate(dense, pruned, analysis, cut, calibration(x=images()))
    x = images(seed=7)
    assert relative_error(run(dense, x=x), run(pruned, x=x)) > 0.1
    np.testing.assert_allclose(run(result, x=x), run(dense, x=x), rtol=0, atol=2e-4)


def test_a_constant_channel_is_exact_up_to_the_borders() -> None:
    first, bias = normal(6, 3, 3, 3), np.zeros(6, np.float32)
    first[5], bias[5] = 0, 2.0
    dense = two_convolutions(first, normal(5, 6, 3, 3), bias)
    analysis, cut, pruned = prune_first(dense, np.arange(5))
    result = compensate(dense, pruned, analysis, cut, calibration(x=images(256)))
    x = images(seed=7)
    wanted, got = run(dense, x=x), run(result, x=x)
    middle = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert relative_error(wanted[middle], got[middle]) < 0.03
    assert relative_error(wanted, run(pruned, x=x)) > 2 * relative_error(wanted, got)


def test_the_error_is_that_of_least_squares() -> None:
    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.array([0, 2, 3, 6, 7]))
    result = compensate(dense, pruned, analysis, cut, calibration(x=images(256)))
    x = images(256, seed=7)
    wanted = run(dense, x=x)
    before, after = relative_error(wanted, run(pruned, x=x)), relative_error(wanted, run(result, x=x))
    assert after < 0.75 * before
    assert [n.op_type for n in result.graph] == [n.op_type for n in pruned.graph]
    assert {n: tuple(v.shape) for n, v in result.graph.initializers.items()} == {
        n: tuple(v.shape) for n, v in pruned.graph.initializers.items()
    }


def test_the_pruned_model_and_the_dense_one_are_not_changed() -> None:
    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(4))
    before = [graph.to_bytes(m) for m in (dense, pruned)]
    compensate(dense, pruned, analysis, cut, calibration(x=images()))
    assert [graph.to_bytes(m) for m in (dense, pruned)] == before


def test_later_layers_correct_the_error_of_earlier_ones() -> None:
    weights = {
        "w1": normal(3, 12),
        "w2": normal(12, 12, seed=1),
        "w3": normal(12, 12, seed=2),
        "w4": normal(12, 4, seed=3),
    }
    dense = build(
        """g (float[n, 3] x) => (float[n, 4] y) {
            a = Gemm(x, w1, b1)
            h = Relu(a)
            c = MatMul(h, w2)
            d = Add(c, b2)
            i = Relu(d)
            e = MatMul(i, w3)
            f = Add(b3, e)
            j = Relu(f)
            y = Gemm(j, w4)
        }""",
        **{f"b{k}": normal(12, seed=3 + k) for k in (1, 2, 3)},
        **weights,
    )
    analysis = analyse(dense)
    cut = {analysis.groups[0].id: np.arange(4)}
    pruned = prune_channels(dense, analysis, cut)
    x = np.random.default_rng(0).standard_normal((2000, 3)).astype(np.float32)
    only_cut = compensate(dense, pruned, analysis, cut, calibration(x=x), settings=CompensateSettings(uncut_features=0))
    everything = compensate(dense, pruned, analysis, cut, calibration(x=x))
    new = np.random.default_rng(9).standard_normal((2000, 3)).astype(np.float32)
    errors = [relative_error(run(dense, x=new), run(m, x=new)) for m in (pruned, only_cut, everything)]
    assert errors[2] < errors[1] < errors[0]


def test_a_residual_branch_is_fitted_to_the_sum() -> None:
    dense = build(
        """g (float[n, 6] x) => (float[n, 6] y) {
            [first] a = Gemm(x, w1)
            [act] h = Relu(a)
            [second] s = Gemm(h, w2, b)
            [up] c = Gemm(s, w3)
            [act2] d = Relu(c)
            [down] e = MatMul(d, w4)
            [bias] f = Add(e, b)
            [sum] y = Add(s, f)
        }""",
        w1=normal(6, 16),
        w2=normal(16, 6, seed=1),
        w3=normal(6, 16, seed=2),
        w4=normal(16, 6, seed=3),
        b=np.zeros(6),
    )
    analysis = analyse(dense)
    cut = {group.id: np.arange(8) for group in analysis.groups}
    pruned = prune_channels(dense, analysis, cut)
    settings = CompensateSettings()
    targets = find_targets(dense, pruned, analysis.kept(cut), settings.most_features, settings.uncut_features)
    assert [(t.layer.node, t.skip) for t in targets] == [("second", None), ("up", None), ("down", "s")]
    x, new = (np.random.default_rng(s).standard_normal((500, 6)).astype(np.float32) for s in (0, 1))
    result = compensate(dense, pruned, analysis, cut, calibration(x=x))
    assert relative_error(run(dense, x=new), run(result, x=new)) < 0.5 * relative_error(
        run(dense, x=new), run(pruned, x=new)
    )


def test_depthwise_and_pointwise_layers() -> None:
    dense = build(
        """g (float[n, 3, 8, 8] x) => (float[n, 5, 8, 8] y) {
            a = Conv(x, w1)
            h = Relu(a)
            d = Conv<group = 8, pads = [1, 1, 1, 1]>(h, w2, b2)
            i = Relu(d)
            y = Conv(i, w3)
        }""",
        w1=normal(8, 3, 1, 1),
        w2=normal(8, 1, 3, 3),
        b2=normal(8),
        w3=normal(5, 8, 1, 1),
    )
    analysis, cut, pruned = prune_first(dense, np.array([0, 1, 2, 4, 6, 7]))
    result = compensate(dense, pruned, analysis, cut, calibration(x=images()))
    x = images(seed=7)
    wanted = run(dense, x=x)
    assert relative_error(wanted, run(result, x=x)) < 0.65 * relative_error(wanted, run(pruned, x=x))
    assert len(result.graph[-1].inputs) == 3, "the last layer had no bias and gets one"


def test_a_refit_that_makes_outputs_worse_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(4))
    scores = [OutputScore(("y",), "map", "SQNR", "dB", None, db, drop) for db, drop in ((10.0, 10.0), (11.0, 8.0))]
    found = iter(scores)
    monkeypatch.setattr(Fidelity, "compare", lambda self, run: (next(found),))
    result = compensate(dense, pruned, analysis, cut, calibration(x=images()))
    np.testing.assert_array_equal(run(result, x=images()), run(pruned, x=images()))
    (said,) = warnings_of(result)
    assert re.fullmatch("layer '.*' was not refitted: on held-out samples the outputs were no closer with it", said)
    assert warnings_of(pruned) == ()


def test_half_precision_stays_half_precision() -> None:
    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    for value in [*dense.graph.inputs, *dense.graph.outputs, *(o for n in dense.graph for o in n.outputs)]:
        value.dtype = ir.DataType.FLOAT16
    for name, value in dense.graph.initializers.items():
        value.const_value = ir.tensor(value.const_value.numpy().astype(np.float16), name=name)
        value.dtype = ir.DataType.FLOAT16
    analysis, cut, pruned = prune_first(dense, np.arange(4))
    result = compensate(dense, pruned, analysis, cut, calibration(x=images().astype(np.float16)))
    assert {v.const_value.dtype for v in result.graph.initializers.values()} == {ir.DataType.FLOAT16}
    x = images(seed=7).astype(np.float16)
    wanted = run(dense, x=x).astype(np.float32)
    assert relative_error(wanted, run(result, x=x)) < relative_error(wanted, run(pruned, x=x))


def test_activations_that_are_not_finite_are_named() -> None:
    dense = two_convolutions(normal(8, 3, 3, 3) * 1e38, normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(4))
    with pytest.raises(CalibrationError, match="activation 'h' is NaN or infinite"):
        compensate(dense, pruned, analysis, cut, calibration(x=images()))


def test_one_sample_is_too_few() -> None:
    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(4))
    with pytest.raises(CalibrationError, match="at least 2 samples"):
        compensate(dense, pruned, analysis, cut, calibration(x=images(1)))


def test_nothing_cut_is_nothing_changed() -> None:
    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    result = compensate(dense, dense, analyse(dense), {}, calibration(x=images(1)))
    assert graph.to_bytes(result) == graph.to_bytes(dense)


def test_a_small_disk_takes_fewer_samples() -> None:
    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(4))
    settings = CompensateSettings(spool_bytes=30_000)
    result = compensate(dense, pruned, analysis, cut, calibration(x=images()), settings=settings)
    assert relative_error(run(dense, x=images()), run(result, x=images())) < 1.0


def test_memory_does_not_grow_with_the_samples() -> None:
    import tracemalloc

    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(4))
    peaks = []
    for count in (256, 2048):
        data = calibration(x=images(count))
        settings = CompensateSettings(sampling=Sampling(macs=0.0, least_rows=1000))
        tracemalloc.start()
        compensate(dense, pruned, analysis, cut, data, settings=settings)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000, "the samples themselves grow by 1.4 MB, their activations by much more"


def test_few_samples_try_blends_of_inputs() -> None:
    """With a blend among the candidates, the choice on held-out samples is never much worse than the real inputs."""
    dense = two_convolutions(normal(24, 3, 3, 3), normal(6, 24, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(0, 24, 2))
    data, x = calibration(x=images(6)), images(128, seed=7)
    wanted = run(dense, x=x)
    errors = [
        relative_error(wanted, run(compensate(dense, pruned, analysis, cut, data, settings=settings), x=x))
        for settings in (CompensateSettings(blends=()), CompensateSettings())
    ]
    assert errors[1] < 1.05 * errors[0]
    assert max(errors) < 0.9 * relative_error(wanted, run(pruned, x=x))


def test_two_samples_are_enough() -> None:
    dense = two_convolutions(normal(8, 3, 3, 3), normal(5, 8, 3, 3))
    analysis, cut, pruned = prune_first(dense, np.arange(6))
    result = compensate(dense, pruned, analysis, cut, calibration(x=images(2)))
    assert np.isfinite(run(result, x=images(4, seed=7))).all()


def twins(same_depth: bool = True) -> ir.Model:
    """One network on two inputs and both of its results; ``a`` may pass two layers more."""
    tower = """
        {0}1 = Conv<pads=[1,1,1,1]>({1}, w1, v1)
        {0}2 = Relu({0}1)
        {0}3 = Conv<pads=[1,1,1,1]>({0}2, w2)
        {0}4 = Relu({0}3)
        {0}5 = Conv({0}4, w3, v3)
    """
    calls = tower.format("a", "a0") + tower.format("b", "b")
    text = f"""g (float[N,3,8,8] a, float[N,3,8,8] b) => (float[N,8,8,8] y) {{
        {"a0 = Identity(a)" if same_depth else "p = Conv(a, w0) q = Relu(p) a0 = Conv(q, w4)"}
        {calls}
        y = Concat<axis=1>(a5, b5)
    }}"""
    shapes = {"w1": (8, 3, 3, 3), "v1": (8,), "w2": (8, 8, 3, 3), "w3": (4, 8, 1, 1), "v3": (4,)}
    return single(text, **shapes, **({} if same_depth else {"w0": (6, 3, 1, 1), "w4": (3, 6, 1, 1)}))


@pytest.mark.parametrize("same_depth", [True, False])
def test_layers_that_share_a_weight_get_one_solution(same_depth: bool) -> None:
    dense = canonicalize(twins(same_depth))
    analysis = analyse(dense)
    cut = {g.id: np.arange(g.size // 2) for g in analysis.groups if g.size > 6 or not same_depth}
    pruned = prune_channels(dense, analysis, cut)
    a, b = images(96), images(96, seed=3)
    result = compensate(dense, pruned, analysis, cut, calibration(a=a, b=b))
    assert set(result.graph.initializers) >= set(dense.graph.initializers)
    for first, second in (("a1", "b1"), ("a3", "b3"), ("a5", "b5")):
        nodes = [result.graph.node(str(n.name)) for n in result.graph if n.outputs[0].name in (first, second)]
        assert list(map(str, nodes[0].inputs[1:])) == list(map(str, nodes[1].inputs[1:]))
    new = images(seed=7), images(seed=8)
    wanted = run(dense, a=new[0], b=new[1])
    assert relative_error(wanted, run(result, a=new[0], b=new[1])) < 0.8 * relative_error(
        wanted, run(pruned, a=new[0], b=new[1])
    )
    if same_depth:
        one, other = np.split(run(result, a=new[0], b=new[0]), 2, axis=1)
        np.testing.assert_array_equal(one, other)


def test_one_solution_is_the_best_for_all_rows_together() -> None:
    """The weights are those of the least squares over the rows of both uses."""
    text = """g (float[N,6] a, float[N,6] b) => (float[N,3] y, float[N,3] z) {
        a1 = MatMul(a, w1) a2 = Relu(a1) y = MatMul(a2, w2)
        b1 = MatMul(b, w1) b2 = Relu(b1) z = MatMul(b2, w2)
    }"""
    dense = canonicalize(single(text, w1=(6, 8), w2=(8, 3)))
    analysis = analyse(dense)
    cut = {analysis.groups[0].id: np.arange(5)}
    pruned = prune_channels(dense, analysis, cut)
    generator = np.random.default_rng(0)
    a, b = (s * generator.standard_normal((4000, 6)).astype(np.float32) for s in (1.0, 3.0))
    result = compensate(dense, pruned, analysis, cut, calibration(a=a, b=b))
    w1, w2 = (dense.graph.initializers[n].const_value.numpy().astype(np.float64) for n in ("w1", "w2"))
    rows = np.maximum(np.concatenate([a, b]) @ w1, 0)
    kept = rows[:, :5]
    best = np.linalg.lstsq(kept, rows @ w2, rcond=None)[0]
    found = result.graph.initializers["w2"].const_value.numpy()
    # a seventh of the samples is held out, and the damping is not zero
    assert np.abs(found - best).max() < 0.1 * np.abs(best).max() < np.abs(w2[:5] - best).max()


def queries() -> ir.Model:
    """Four learned queries, whose positions are units: they are flattened into a linear layer."""
    weights = {
        "q": normal(1, 4, 6),
        "left": normal(6, 5),
        "bias": normal(5),
        "right": normal(5, 6),
        "head": normal(3, 24),
    }
    text = """
    agraph (float[n, 1, 6] x) => (float[n, 3] y)
    {
        a = Add(x, q)
        b = MatMul(a, left)
        c = Add(b, bias)
        d = Relu(c)
        e = MatMul(d, right)
        f = Add(e, a)
        g = Flatten<axis = 1>(f)
        y = Gemm<transB = 1>(g, head)
    }
    """
    return build(text, **weights)


def test_positions_can_be_cut_too() -> None:
    dense = queries()
    analysis = analyse(dense)
    rows = next(g for g in analysis.groups if any((m.value, m.axis) == ("q", 1) for m in g.members))
    hidden = next(g for g in analysis.groups if any(m.value == "bias" for m in g.members))
    cut = {rows.id: np.array([0, 2, 3]), hidden.id: np.array([0, 1, 3])}
    pruned = prune_channels(dense, analysis, cut)
    data = np.random.default_rng(3).standard_normal((128, 1, 6)).astype(np.float32)
    result = compensate(dense, pruned, analysis, cut, calibration(x=data))
    x = np.random.default_rng(4).standard_normal((64, 1, 6)).astype(np.float32)
    assert relative_error(run(dense, x=x), run(result, x=x)) < 0.5 * relative_error(run(dense, x=x), run(pruned, x=x))
