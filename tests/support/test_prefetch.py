"""The next item is computed while one is worked on; order, results and errors are as without that."""

import threading
from importlib import import_module

import pytest

from edgeprune.support.prefetch import prefetch, run_in_parallel

module = import_module("edgeprune.support.prefetch")


@pytest.mark.parametrize("cores", [1, 2])
def test_items_come_in_order_whatever_the_number_of_cores(cores: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    assert list(prefetch(x * x for x in range(7))) == [x * x for x in range(7)]
    assert list(prefetch([])) == []


def test_the_next_item_is_computed_while_one_is_worked_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    started = [threading.Event() for _ in range(3)]

    def items():
        for i in range(3):
            started[i].set()
            yield i

    for i in prefetch(items()):
        if i < 2:
            assert started[i + 1].wait(10)


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield 1
        raise ValueError("the second item is broken")

    coming = prefetch(items())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="the second item is broken"):
        next(coming)


def test_a_caller_may_stop_early():
    stopped = False
    for x in prefetch(iter(range(1000))):
        stopped = x == 1
        if stopped:
            break
    assert stopped


@pytest.mark.parametrize("cores", [1, 2])
def test_work_side_by_side_keeps_the_order(cores: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    assert run_in_parallel(lambda x: x + 1, range(9)) == list(range(1, 10))
    assert run_in_parallel(lambda x: x + 1, []) == []


def test_work_of_several_threads_is_not_multiplied(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    seen: set[int] = set()
    run_in_parallel(lambda _: seen.add(threading.get_ident()), range(9), threads=2)
    assert seen == {threading.get_ident()}
