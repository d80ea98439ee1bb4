"""The minimum cut is the best of all labellings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune.search.min_cut import best_labels


def cost(
    labels: NDArray[np.int64], own: NDArray[np.float64], pairs: list[tuple[int, int]], together: NDArray[np.float64]
) -> float:
    alone = sum(own[node, label] for node, label in enumerate(labels))
    return float(alone + sum(table[labels[a], labels[b]] for (a, b), table in zip(pairs, together, strict=True)))


@pytest.mark.parametrize("seed", range(8))
def test_no_labelling_costs_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes = 9
    own = rng.uniform(0, 10, (nodes, 2))
    pairs = [(int(a), int(b)) for a, b in rng.choice(nodes, (14, 2)) if a != b]
    together = rng.uniform(0, 4, (len(pairs), 2, 2))
    together[:, 0, 1] += together[:, 0, 0] + together[:, 1, 1]  # unlike labels cost no less
    best = min(cost(np.array(c), own, pairs, together) for c in itertools.product((0, 1), repeat=nodes))
    found = best_labels(own, pairs, together)
    assert cost(found, own, pairs, together) == pytest.approx(best, rel=1e-6)


def test_nodes_are_independent_where_no_pair_costs() -> None:
    own = np.array([[1.0, 2.0], [5.0, 3.0], [4.0, 0.0]])
    assert best_labels(own, [], np.zeros((0, 2, 2))).tolist() == [0, 1, 1]


def test_neighbours_go_together_where_only_that_pays() -> None:
    own = np.array([[3.0, 2.0], [3.0, 2.0], [3.0, 2.5]])
    chain = np.array([[[0.0, 1.2], [1.2, 0.0]]] * 2)
    assert best_labels(own, [(0, 1), (1, 2)], chain).tolist() == [1, 1, 1]


def test_the_first_label_where_both_are_equally_good() -> None:
    assert best_labels(np.zeros((2, 2)), [(0, 1)], np.array([[[0.0, 1.0], [1.0, 0.0]]])).tolist() == [0, 0]
    assert best_labels(np.zeros((0, 2)), [], np.zeros((0, 2, 2))).tolist() == []
