import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.importance import rank
from tests.small_models import normal, two_convolutions


def ranked(name: str, first: np.ndarray, second: np.ndarray):
    model = two_convolutions(first, second)
    (ranking,) = rank(name, model, analyse(model)).values()
    return ranking


@pytest.mark.parametrize("name", ["l1", "l2", "lamp"])
def test_small_weights_go_first(name: str) -> None:
    scale = np.array([3.0, 1.0, 4.0, 2.0], np.float32)
    first = np.ones((4, 3, 3, 3), np.float32) * scale[:, None, None, None]
    second = np.ones((5, 4, 3, 3), np.float32) * scale[None, :, None, None]
    ranking = ranked(name, first, second)
    assert ranking.order.tolist() == [1, 3, 0, 2]
    assert ranking.loss[0] == 0
    assert ranking.loss.shape == (5,)
    assert (np.diff(ranking.loss) > 0).all()


def test_l1_adds_up_normalised_weights() -> None:
    first, second = np.abs(normal(4, 3, 3, 3)), np.abs(normal(5, 4, 3, 3))
    of_first, of_second = first.sum((1, 2, 3)), second.sum((0, 2, 3))
    scores = of_first / of_first.mean() + of_second / of_second.mean()
    ranking = ranked("l1", first, second)
    assert ranking.order.tolist() == np.argsort(scores).tolist()
    np.testing.assert_allclose(ranking.loss, [0, *np.cumsum(np.sort(scores)) / scores.sum()], rtol=1e-6)


def test_l1_and_l2_differ_where_they_should() -> None:
    first = np.zeros((2, 3, 3, 3), np.float32)
    first[0, 0, 0, 0], first[1] = 3.0, 0.2
    second = np.ones((5, 2, 3, 3), np.float32)
    assert ranked("l1", first, second).order.tolist() == [0, 1]
    assert ranked("l2", first, second).order.tolist() == [1, 0]


def test_fpgm_removes_what_is_near_the_others() -> None:
    first = normal(5, 3, 3, 3)
    first[3] = first[[0, 1, 2, 4]].mean(0)
    assert ranked("fpgm", first, np.ones((5, 5, 3, 3), np.float32)).order[0] == 3
