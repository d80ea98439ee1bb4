"""The pass against a NumPy transformer in which the same tokens leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.errors import PassError
from edgeprune.passes.tokens import SETTINGS, TokenStep, reduce_tokens, token_sites
from edgeprune.testing.oracle import run
from tests.passes.tokens.vits import DENSE, Vit

ENDS = ("class", "distilled", "mean", "rest", "pool", *DENSE)
PROTECTED = {"class": 1, "distilled": 2, "rest": 1, "grid": 1}


def changed(model: ir.Model, leave: Mapping[str, int], name: str) -> ir.Model:
    return reduce_tokens(model, [TokenStep(site, count) for site, count in leave.items()], SETTINGS[name])


def samples(vit: Vit, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).standard_normal((vit.batch or 2, vit.tokens, vit.width)).astype(np.float32)


def test_no_token_that_leaves_is_no_change() -> None:
    model = Vit().model()
    assert changed(model, {}, "tome") is model
    assert changed(model, {"attended0": 0}, "saint") is model


@given(
    vit=st.builds(
        Vit,
        seed=st.integers(0, 10_000),
        tokens=st.integers(11, 24),
        depth=st.integers(2, 3),
        heads=st.sampled_from((1, 2, 4)),
        end=st.sampled_from(ENDS),
        position=st.sampled_from(("none", "bias", "rotary", "talking")),
        fused=st.booleans(),
        batch=st.sampled_from((1, 2, None)),
    ),
    name=st.sampled_from(tuple(SETTINGS)),
    data=st.data(),
)
@settings(max_examples=50, deadline=None)
def test_random_transformers_equal_numpy(vit: Vit, name: str, data: st.DataObject) -> None:
    if vit.position == "talking":
        vit = replace(vit, fused=False)
    model, protected, count = vit.model(), PROTECTED.get(vit.end, 0), vit.tokens
    sites = token_sites(model)
    if vit.batch != 1 and (vit.end == "rows" or vit.position in ("bias", "rotary")):
        assert not sites
        return
    assert sites
    assert {s.tokens for s in sites} == {count}
    assert {s.protected for s in sites} == {protected}
    leave: dict[str, int] = {}
    for site in data.draw(st.lists(st.sampled_from(sites), min_size=1, max_size=3, unique=True).map(sorted_by(sites))):
        most = SETTINGS[name].most(count, protected)
        if most:
            leave[site.value] = data.draw(st.integers(1, most))
            count -= leave[site.value]
    x = samples(vit)
    made = changed(model, leave, name)
    expected = vit.run(x.astype(np.float64), leave, SETTINGS[name], protected)
    np.testing.assert_allclose(run(made, {"input": x})[0], expected, atol=2e-5, rtol=2e-5)


def sorted_by(sites):  # type: ignore[no-untyped-def]
    return lambda chosen: sorted(chosen, key=sites.index)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("end", ["class", "mean", "rest", "pool", *DENSE])
def test_merging_tokens_that_are_the_same_changes_nothing(end: str, fused: bool) -> None:
    vit = Vit(tokens=16 + PROTECTED.get(end, 0), end=end, fused=fused)
    protected = PROTECTED.get(end, 0)
    x = samples(vit)
    x[:, protected + 1 :: 2] = x[:, protected::2]
    model = vit.model()
    dense = run(model, {"input": x})[0]
    merged = run(changed(model, {"attended0": 8}, "tome"), {"input": x})[0]
    np.testing.assert_allclose(merged, dense, atol=1e-5)


@pytest.mark.parametrize("name", ["saint", "dart", "bavit"])
@pytest.mark.parametrize("end", DENSE)
def test_a_token_that_was_dropped_is_as_its_most_similar_one_for_a_dense_head(end: str, name: str) -> None:
    vit = Vit(tokens=16 + PROTECTED.get(end, 0), end=end, batch=1 if end == "rows" else None)
    x = samples(vit)
    made = changed(vit.model(), {"attended0": 5, "attended1": 4}, name)
    expected = vit.run(x.astype(np.float64), {"attended0": 5, "attended1": 4}, SETTINGS[name], PROTECTED.get(end, 0))
    np.testing.assert_allclose(run(made, {"input": x})[0], expected, atol=2e-5, rtol=2e-5)


def test_outputs_keep_their_names_and_lengths() -> None:
    made = changed(Vit(tokens=13, end="tokens").model(), {"block0": 4}, "tome")
    assert [(v.name, tuple(v.shape or ())) for v in made.graph.outputs] == [("output", (1, 13, 8))]


def test_every_value_behind_a_step_is_shorter() -> None:
    made = changed(Vit(tokens=13).model(), {"block0": 4}, "tome")
    shapes = {v.name: tuple(v.shape) for node in made.graph for v in node.outputs if v.shape is not None}
    assert shapes["block0"] == shapes["attended0"] == (1, 13, 8)
    assert shapes["attended1"] == shapes["block1"] == (1, 9, 8)


@pytest.mark.parametrize(
    ("leave", "message"),
    [
        ({"nowhere": 1}, "tokens cannot leave at 'nowhere'"),
        ({"attended0": 7}, "7 tokens cannot leave at 'attended0': at most 6 of 13 can"),
        ({"attended0": 6, "attended1": 4}, "4 tokens cannot leave at 'attended1': at most 3 of 7 can"),
    ],
)
def test_impossible_steps_are_refused(leave: dict[str, int], message: str) -> None:
    with pytest.raises(PassError, match=message):
        changed(Vit().model(), leave, "tome")


def test_a_model_without_sites_is_refused_with_the_reason() -> None:
    with pytest.raises(PassError, match="the model has no attention"):
        changed(Vit(depth=0).model(), {"attended0": 1}, "tome")
