"""Which units of a batch go, against the definition: refit, look, and exchange one by one."""

import numpy as np
import pytest

from edgeprune.importance.removal_batch import UnitBlocks, choose_batch

Layer = tuple[np.ndarray, np.ndarray, np.ndarray]


def layer(units: int, each: int, seed: int, *, ragged: bool = False) -> Layer:
    """Inverse covariance, energy and units of a layer; a ragged one lacks features of some units."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), each)
    unit = rng.permutation(unit[rng.random(len(unit)) < 0.8] if ragged else unit)
    x, w = rng.standard_normal((3 * len(unit), len(unit))), rng.standard_normal((7, len(unit)))
    return np.linalg.inv(x.T @ x / len(x)), w.T @ w, unit


def loss(layers: list[Layer], removed: list[int]) -> float:
    total = 0.0
    for inverse, energy, unit in layers:
        gone = np.isin(unit, removed)
        total += np.trace(np.linalg.solve(inverse[np.ix_(gone, gone)], energy[np.ix_(gone, gone)]))
    return total


def by_definition(layers: list[Layer], units: int, count: int) -> list[int]:
    """Greedily, then one exchange for each of the chosen but the last, then greedily among those."""

    def greedy(among: list[int]) -> list[int]:
        chosen: list[int] = []
        for _ in range(count):
            left = [u for u in among if u not in chosen]
            chosen.append(min(left, key=lambda u: loss(layers, [*chosen, u])))
        return chosen

    chosen = greedy(list(range(units)))
    swapped = list(chosen)
    for position in range(count - 1):
        others = [u for i, u in enumerate(swapped) if i != position]
        rest = [u for u in range(units) if u not in others]
        swapped[position] = min(rest, key=lambda u: loss(layers, [*others, u]))
    return chosen if set(swapped) == set(chosen) else greedy(swapped)


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_what_goes_is_what_exchanging_one_by_one_finds(each: int, ragged: bool, count: int) -> None:
    for seed in range(6):
        layers = [layer(10, each, seed, ragged=ragged), layer(10, 2 * each, 100 + seed)]
        chosen, costs = choose_batch(UnitBlocks.of(layers, 10), count)
        assert chosen.tolist() == by_definition(layers, 10, count)
        np.testing.assert_allclose(sum(costs), loss(layers, chosen.tolist()), rtol=1e-9)


def test_exchanges_happen() -> None:
    pairs = [[layer(10, 1, seed)] for seed in range(20)]
    greedy = [
        choose_batch(UnitBlocks.of(layers, 10), 1)[0][0] in choose_batch(UnitBlocks.of(layers, 10), 3)[0]
        for layers in pairs
    ]
    assert not all(greedy)  # the unit of least loss alone is not always among the best three


def test_all_units_may_go() -> None:
    layers = [layer(6, 2, 0)]
    chosen, costs = choose_batch(UnitBlocks.of(layers, 6), 6)
    assert sorted(chosen) == list(range(6))
    np.testing.assert_allclose(sum(costs), loss(layers, list(range(6))), rtol=1e-9)
