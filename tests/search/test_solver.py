"""The search against enumeration, on small networks with an artificial latency model."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeprune.dependency.widths import Dim, Segment
from edgeprune.errors import BudgetError
from edgeprune.latency.block_latency import Edge, LatencyModel
from edgeprune.latency.features import Contraction, Geometry
from edgeprune.search.milp import solve_around
from edgeprune.search.solver import Problem, Searcher, fastest, fastest_unpruned, search


def chain(groups: int, rng: np.random.Generator, *, int8: bool = True) -> Problem:
    """A chain of layers, each between two groups, with random losses."""
    sizes = np.full(groups, 32, dtype=np.int64)
    dims = [Dim(3), *(Dim(32, (Segment(32, (g,)),)) for g in range(groups)), Dim(10)]
    shapes = tuple(
        Geometry(
            reads=((a,),),
            writes=((b,),),
            weights=((a, b),),
            contractions=(Contraction((Dim(49),), b, a, 9),),
            groups=frozenset(g for d in (a, b) for s in d.segments or () for g in s.groups),
        )
        for a, b in itertools.pairwise(dims)
    )
    blocks = len(shapes)
    float_theta = np.tile([5.0, 1e-5, 1e-5, 1e-3, 1e-3, 0.0], (blocks, 1))
    theta = {"fp32": float_theta}
    if int8:
        theta["int8"] = float_theta * rng.uniform(0.3, 1.1, (blocks, 1))
    edges = tuple(Edge(b, b + 1, 0) for b in range(blocks - 1))
    latency = LatencyModel(shapes, edges, sizes, 16, theta, (1.0, 1e-3))
    levels = tuple(np.arange(16, 33, 16) for _ in range(groups))
    width_loss = tuple(np.array([rng.uniform(0.01, 1.0), 0.0]) for _ in range(groups))
    format_loss = tuple({f: 0.0 if f == "fp32" else rng.uniform(0.0, 0.2) for f in theta} for _ in range(blocks))
    return Problem(latency, levels, width_loss, format_loss)


def enumerate_candidates(problem: Problem) -> list[tuple[float, float]]:
    """(latency, loss) of every candidate."""
    model = problem.latency
    found = []
    for index in itertools.product(*(range(len(v)) for v in problem.levels)):
        if any(len({index[g] for g in groups}) > 1 for groups in problem.tied):
            continue
        widths = np.array([v[i] for v, i in zip(problem.levels, index, strict=True)])
        loss = sum(v[i] for v, i in zip(problem.width_loss, index, strict=True))
        for formats in itertools.product(*(model.formats(b) for b in range(len(model.geometries)))):
            extra = sum(f[name] for f, name in zip(problem.format_loss, formats, strict=True))
            found.append((model.total_us(widths, formats), float(loss + extra)))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.45, 1.0))
@example(76, 0.609375)  # two neighbours, of which neither can stay in FP32 alone
def test_close_to_the_best_and_within_the_budget(seed: int, fraction: float) -> None:
    problem = chain(3, np.random.default_rng(seed))
    candidates = enumerate_candidates(problem)
    dense = problem.latency.total_us(problem.latency.sizes, ["fp32"] * 4)
    budget = fraction * dense
    feasible = [loss for time, loss in candidates if time <= budget]
    if not feasible:
        with pytest.raises(BudgetError):
            search(problem, budget)
        return
    found = search(problem, budget)
    assert found.latency_us <= budget + 1e-9
    assert found.latency_us == pytest.approx(problem.latency.total_us(found.widths, found.formats), rel=1e-9)
    # Not exact by construction: within a tenth of the largest loss.
    assert found.loss <= min(feasible) + 0.1 * max(loss for _, loss in candidates)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.45, 1.0))
def test_tied_groups_have_the_same_level(seed: int, fraction: float) -> None:
    problem = replace(chain(3, np.random.default_rng(seed)), tied=((0, 2),))
    candidates = enumerate_candidates(problem)
    budget = fraction * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 4)
    feasible = [loss for time, loss in candidates if time <= budget]
    if not feasible:
        with pytest.raises(BudgetError):
            search(problem, budget)
        return
    for found in (search(problem, budget), solve_around(problem, search(problem, budget), budget).candidate):
        assert found.widths[0] == found.widths[2]
        assert found.latency_us <= budget + 1e-9
        assert found.latency_us == pytest.approx(problem.latency.total_us(found.widths, found.formats), rel=1e-9)
        assert found.loss <= min(feasible) + 0.1 * max(loss for _, loss in candidates)


def test_a_loose_budget_changes_nothing() -> None:
    problem = chain(3, np.random.default_rng(0))
    found = search(problem, 10 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 4))
    assert (found.widths == problem.latency.sizes).all()
    assert set(found.formats) == {"fp32"}
    assert found.loss == 0


def test_an_impossible_budget_names_the_lowest_latency() -> None:
    problem = chain(2, np.random.default_rng(0))
    with pytest.raises(
        BudgetError, match=r"no candidate is predicted to run in less than 0\.0\d+ ms; the budget is 0\.001 ms"
    ):
        search(problem, 1.0)


def test_a_budget_must_be_positive() -> None:
    with pytest.raises(BudgetError, match="positive"):
        search(chain(1, np.random.default_rng(0)), 0.0)


def test_fastest_unpruned_uses_the_formats_that_are_fastest_together() -> None:
    problem = chain(2, np.random.default_rng(3))
    dense_levels = [
        (t, f)
        for f in itertools.product(("fp32", "int8"), repeat=3)
        for t in [problem.latency.total_us(problem.latency.sizes, f)]
    ]
    assert fastest_unpruned(problem).latency_us == pytest.approx(min(dense_levels)[0], rel=1e-9)


def test_the_fastest_is_not_always_the_narrowest() -> None:
    """Few channels have no INT8 kernel here, so that the smallest widths are slower than the dense ones in INT8."""
    problem = chain(3, np.random.default_rng(0))
    narrow, slow = problem.latency, {"fp32": 1.0, "int8": 9.0}

    class WithoutSmallKernels:
        def __getattr__(self, name: str) -> object:
            return getattr(narrow, name)

        def block_us(self, b: int, fmt: str, widths: np.ndarray) -> float:
            factor = slow[fmt] if (widths < 32).any() else 1.0
            return factor * narrow.block_us(b, fmt, widths)

        def total_us(self, widths: np.ndarray, formats: tuple[str, ...]) -> float:
            edges = sum(narrow.edge_us(e, formats[e.writer], formats[e.reader], widths) for e in narrow.edges)
            return sum(self.block_us(b, f, widths) for b, f in enumerate(formats)) + edges + narrow.call_us

    found = fastest(replace(problem, latency=WithoutSmallKernels()))
    assert found.latency_us <= fastest_unpruned(replace(problem, latency=WithoutSmallKernels())).latency_us
    assert (found.widths == 32).all()


def test_latency_never_increases_when_aligned_widths_shrink() -> None:
    model = chain(1, np.random.default_rng(0)).latency
    times = [model.total_us(np.array([w]), ["fp32", "fp32"]) for w in range(32, 0, -1)]
    assert all(a >= b for a, b in itertools.pairwise(times))


@pytest.mark.parametrize("seed", range(4))
def test_a_search_that_starts_from_the_last_result_is_as_good(seed: int) -> None:
    problem = chain(5, np.random.default_rng(seed))
    searcher = Searcher(problem)
    widest, least = (c.latency_us for c in (fastest_unpruned(problem), fastest(problem)))
    for share in (0.6, 0.55, 0.5, 0.53, 0.9, 0.02, 0.01):
        budget_us = least + share * (widest - least)
        found = searcher.search(budget_us)
        assert found.latency_us <= budget_us
        assert found.loss <= 1.05 * search(problem, budget_us).loss + 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_calls_of_one_layer_have_one_format(seed: int) -> None:
    problem = replace(chain(4, np.random.default_rng(seed)), twins=((0, 2), (1, 4)))
    slowest, quickest = fastest_unpruned(replace(problem, twins=())).latency_us, fastest(problem).latency_us
    for share in (0.1, 0.4, 0.8):
        found = search(problem, quickest + share * (slowest - quickest))
        assert found.formats[0] == found.formats[2]
        assert found.formats[1] == found.formats[4]
        assert found.latency_us == pytest.approx(problem.latency.total_us(found.widths, found.formats))
