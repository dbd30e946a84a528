"""One item ahead, and no more; errors reach whoever asks."""

import threading

import pytest

from pagap_jax.train.prefetch import Prefetch


def test_items_in_order_each_made_once_and_one_ahead():
    made, started = [], threading.Event()

    def make(i):
        made.append(i)
        if i == 1:
            started.set()
        return 10 * i

    items = Prefetch(make, 4)
    assert made == []
    assert items(0) == 0
    assert started.wait(10)  # 1 is made though nobody asked for it
    assert [items(i) for i in (1, 2, 3)] == [10, 20, 30]
    assert made == [0, 1, 2, 3]  # nothing after the last


def test_starts_anywhere():
    """A resumed run doesn't begin at 0."""
    items = Prefetch(lambda i: i, 10)
    assert [items(i) for i in (7, 8, 3)] == [7, 8, 3]


def test_errors_come_when_their_item_is_asked_for():
    def make(i):
        if i == 1:
            raise ValueError("no such item")
        return i

    items = Prefetch(make, 3)
    assert items(0) == 0
    with pytest.raises(ValueError, match="no such item"):
        items(1)
