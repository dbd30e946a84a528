"""The next one while this one is worked on: batches on their way to the device, checkpoints."""

import concurrent.futures
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """`make(i)` for i = 0, 1, ... in a thread, one ahead of whoever asks."""

    def __init__(self, make: Callable[[int], T], end: int):
        """Takes what makes item i, and the number of items. Nothing is made before it's asked."""
        self._make = make
        self._end = end
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._next: tuple[int, concurrent.futures.Future[T]] | None = None

    def __call__(self, index: int) -> T:
        """Item `index`; the one after it is begun. Raises what `make` raised."""
        if self._next is None or self._next[0] != index:
            self._next = (index, self._thread.submit(self._make, index))
        item = self._next[1].result()
        following = index + 1
        self._next = (
            (following, self._thread.submit(self._make, following))
            if following < self._end
            else None
        )
        return item
