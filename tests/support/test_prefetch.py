"""The next item is computed while one is worked on; order, results and errors are as without that."""

import threading

import pytest

from edgeprune.support import prefetch as module
from edgeprune.support.prefetch import ahead, side_by_side


@pytest.mark.parametrize("cores", [1, 2])
def test_items_come_in_order_whatever_the_number_of_cores(cores: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    assert list(ahead(x * x for x in range(7))) == [x * x for x in range(7)]
    assert list(ahead([])) == []


def test_the_next_item_is_computed_while_one_is_worked_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    begun = [threading.Event() for _ in range(3)]

    def items():
        for i in range(3):
            begun[i].set()
            yield i

    for i in ahead(items()):
        if i < 2:
            assert begun[i + 1].wait(10)


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield 1
        raise ValueError("the second item is broken")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="the second item is broken"):
        next(coming)


def test_a_caller_may_stop_early():
    stopped = False
    for x in ahead(iter(range(1000))):
        stopped = x == 1
        if stopped:
            break
    assert stopped


@pytest.mark.parametrize("cores", [1, 2])
def test_work_side_by_side_keeps_the_order(cores: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    assert side_by_side(lambda x: x + 1, range(9)) == list(range(1, 10))
    assert side_by_side(lambda x: x + 1, []) == []


def test_work_of_several_threads_is_not_multiplied(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    seen: set[int] = set()
    side_by_side(lambda _: seen.add(threading.get_ident()), range(9), threads=2)
    assert seen == {threading.get_ident()}
