"""Scores and models of candidates, cached between compiles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build.model_builder import _key
from edgeprune.build.x86_builder import X86Builder
from edgeprune.calibration.array_cache import ArrayCache
from edgeprune.calibration.evaluator import Evaluator
from edgeprune.calibration.fidelity import fidelity
from edgeprune.dependency.solve import analyse
from edgeprune.graph import model_io as graphs
from edgeprune.graph import warnings_of
from edgeprune.latency.block_network import network
from edgeprune.latency.timing_harness import TimingHarness
from edgeprune.report import Accuracy
from edgeprune.search.problem import Candidate
from edgeprune.search.score_cache import ScoreCache
from edgeprune.testing.oracle import parse
from tests.small_models import calibration

TEXT = """
g (float[n, 4, 8, 8] x) => (float[n, 5] y) {
  h = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(h)
  p = GlobalAveragePool(r)
  f = Flatten(p)
  y = Gemm<transB=1>(f, w2, b2)
}
"""


@pytest.fixture
def scores(tmp_path: Path) -> ScoreCache:
    model = parse(TEXT, w1=(16, 4, 3, 3), b1=(16,), w2=(5, 16), b2=(5,))
    data = calibration(x=np.random.default_rng(0).standard_normal((32, 4, 8, 8)).astype(np.float32))
    runtime = OnnxRuntime()
    run = runtime.load(model).run
    evaluator = Evaluator(fidelity(run, data, model), None, data.samples, "fidelity on these samples")
    harness = TimingHarness(runtime, next(iter(data.batches(1))), lambda: None)
    builder = X86Builder(model, network(model, analyse(model)), {}, data)
    return ScoreCache(
        ArrayCache("a model", tmp_path / "statistics.sqlite"),
        builder,
        evaluator,
        lambda model: harness.runtime.load(model).run,
    )


def candidate(scores: ScoreCache, fmt: str) -> Candidate:
    net = scores.builder.network
    return Candidate(net.sizes, tuple(fmt if fmt in f else "fp32" for f in net.int8_nodes), 0.0, 0.0)


def test_a_candidate_is_built_and_scored_once(scores: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized = candidate(scores, "int8")
    drop, model = scores.drop(quantized), scores.model(quantized)
    monkeypatch.setattr(X86Builder, "build", lambda *_: pytest.fail("built again"))
    assert scores.drop(quantized) == drop
    x = {"x": np.random.default_rng(1).standard_normal((3, 4, 8, 8)).astype(np.float32)}
    runtime = OnnxRuntime()
    want, got = (runtime.load(m).run(x)[0] for m in (model, scores.model(quantized)))
    np.testing.assert_array_equal(want, got)
    assert "QuantizeLinear" in {n.op_type for n in model.graph}


def test_an_evaluator_without_an_identity_scores_again(scores: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(Evaluator, "accuracy", lambda *_: calls.append(1) or SimpleNamespace(drop=0.25))

    def drops(identity: str | None) -> list[float]:
        """The drops of two compiles with evaluators of this identity."""
        evaluator = replace(scores.evaluator, identity=identity)
        compiles = [replace(scores, evaluator=evaluator) for _ in range(2)]
        return [compile.drop(candidate(compile, "fp32")) for compile in compiles]

    assert drops(None) == [0.25, 0.25]
    assert len(calls) == 2
    assert drops("labels") == [0.25, 0.25]
    assert len(calls) == 3


def test_a_candidate_that_is_refused_early_has_no_score(scores: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    dense, worse = candidate(scores, "fp32"), candidate(scores, "int8")
    limits: list[float] = []
    accuracy = Evaluator.accuracy

    def counted(self: Evaluator, run: object, limit: float = np.inf) -> object:
        limits.append(limit)
        found = accuracy(self, run, limit)
        return replace(found, drop=9.0, samples=4) if np.isfinite(limit) and len(limits) > 1 else found

    monkeypatch.setattr(Evaluator, "accuracy", counted)
    assert scores.is_within(dense, 1.0)
    assert scores.drop(dense) < 1e-6
    assert not scores.is_within(worse, 1.0)
    assert scores.drop(worse) < 9
    assert limits == [1.0, 1.0, np.inf]


def test_a_score_on_other_samples_is_no_refusal(scores: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's function may return one number for each thing that a model finds."""
    found = Accuracy("evaluation", "matches", "", 90.0, 89.5, 0.5, 7)
    monkeypatch.setattr(Evaluator, "accuracy", lambda *_: found)
    scores = replace(scores, evaluator=replace(scores.evaluator, samples=9))
    assert scores.is_within(candidate(scores, "fp32"), 1.0)
    assert not scores.is_within(candidate(scores, "int8"), 0.1)


def test_what_was_learned_is_not_cached_as_if_it_was_built(scores: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for the candidate that was learned, nor for one of the same widths in other formats."""
    built = scores.builder
    one, other = (candidate(scores, f) for f in ("fp32", "int8"))
    again = replace(scores, builder=X86Builder(built.dense, built.network, {}, built.data))  # the next compile

    def learn(builder: X86Builder, widths: np.ndarray, *_: object) -> bool:
        learned = graphs.clone(builder.dense)
        learned.graph.initializers["w2"].const_value = ir.tensor(np.zeros((5, 16), np.float32), name="w2")
        builder._float_models[_key(widths)] = learned
        return True

    monkeypatch.setattr(X86Builder, "_recover", learn)
    assert not built.has_learned(one.widths)
    assert built.recover(one.widths, one.formats)
    x = {"x": np.ones((3, 4, 8, 8), np.float32)}
    for which in (one, other):
        now, then = scores.drop(which), again.drop(which)
        assert now > then + 1
        results = [OnnxRuntime().load(s.model(which)).run(x)[0] for s in (scores, again)]
        assert not np.allclose(*results)


@pytest.mark.parametrize(
    ("before", "after", "limit", "stay"),
    [(12.0, 8.0, 99.0, False), (8.0, 7.0, 99.0, True), (12.0, 11.0, 99.0, True), (20.0, 15.0, 2.0, False)],
)
def test_learned_weights_are_taken_back_where_only_they_are_refused(
    before: float, after: float, limit: float, stay: bool, scores: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offered budgets were scored as built; 10 dB are the floor, and 20 dB lose 1 point."""
    one, built = candidate(scores, "fp32"), scores.builder
    first, key = built.build(one.widths, one.formats), (one.widths.tobytes(), one.formats)
    values = {first: before}

    def learn(builder: X86Builder, *_: object) -> bool:
        builder.before_learning[key] = builder.dense, first
        builder._built[key] = graphs.clone(first)
        values[builder._built[key]] = after
        return True

    def accuracy(_: Evaluator, run: ir.Model) -> Accuracy:
        return Accuracy("fidelity", "SQNR", "dB", None, values[run], 100 / 10 ** (values[run] / 10), 8)

    monkeypatch.setattr(X86Builder, "_recover", learn)
    monkeypatch.setattr(Evaluator, "accuracy", accuracy)
    scores = replace(scores, run_of=lambda model: model)
    assert built.recover(one.widths, one.formats)
    scores.judge_learned(one, limit)
    assert (built.build(one.widths, one.formats) is not first) == stay
    assert built.has_learned(one.widths) == stay
    assert scores.accuracy(one).after == (after if stay else before)
    said = "" if stay else f"learned weights were left out: SQNR was {after:.4g} with them"
    assert "".join(warnings_of(built.dense)) == said


def test_large_models_are_not_cached(scores: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeprune.search import score_cache as module

    monkeypatch.setattr(module, "LARGEST_BYTES", 0)
    built: list[ir.Model] = []
    build = X86Builder.build
    monkeypatch.setattr(X86Builder, "build", lambda *a: built.append(build(*a)) or built[-1])
    for _ in range(2):
        scores.model(candidate(scores, "int8"))
    assert len(built) == 2
