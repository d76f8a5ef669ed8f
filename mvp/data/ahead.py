"""Work that threads do ahead of whoever asks for its results."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_ahead(
    work: Callable[[Item], Sequence[Result]],
    items: Iterable[Item],
    results: Callable[[Item], int],
    workers: int,
    ahead: int,
) -> Generator[Result, None, None]:
    """All results in the order of the items, made by threads before they are asked for.

    Threads, not processes: resizing releases the interpreter's lock, as does waiting for the
    processes that decode, and the result cannot depend on the number of workers.

    Args:
        work: gives the results of one item; what it raises is raised here, in its place.
        items: pulled one by one, in the caller's thread, only when there is room for the next.
        results: how many results an item will have; one of none is passed over.
        workers: threads.
        ahead: how many results may be under way or waiting. An item of more than that is begun
            when nothing else is.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, workers))
    waiting: deque[Future[Sequence[Result]]] = deque()
    ready: deque[Result] = deque()
    source = iter(items)
    held: list[Item] = []  # pulled, and too large for the room that is left
    under_way, more = 0, True

    try:
        while True:
            while held or (more and under_way < max(1, ahead)):
                if not held:
                    held.extend(_next(source))
                    more = bool(held)
                    continue
                number = results(held[0])
                if under_way and under_way + number > ahead:
                    break
                item = held.pop()
                if number:
                    waiting.append(pool.submit(work, item))
                    under_way += number
            if ready:
                yield ready.popleft()
                under_way -= 1
            elif waiting:
                ready.extend(waiting.popleft().result())
            else:
                return
    finally:
        # Not waited for: an iterator that was dropped may be collected in one of these very
        # threads, which cannot join itself.
        pool.shutdown(wait=False, cancel_futures=True)


def _next(source: Iterator[Item]) -> list[Item]:
    for item in source:
        return [item]
    return []


def run_ahead(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    weight: Callable[[Result], int],
    workers: int,
    ahead: int,
) -> Generator[Result, None, None]:
    """As `work_ahead`, for items of which nobody knows beforehand how much they give.

    Threads begin the next item themselves, also while nobody asks for a result.

    Args:
        work: gives the result of one item; what it raises is raised here, in its place.
        items: all of them.
        weight: how much room a result takes, 1 or more.
        workers: threads.
        ahead: while the results that wait, and the items under way at 1 each, take so much room,
            no further item is begun.
    """
    run = _Run(work, items, weight, max(1, workers), max(1, ahead))
    try:
        while (future := run.next()) is not None:
            result = future.result()
            yield result
            run.give_room(weight(result))
            del result
    finally:
        run.stop()


class _Run(Generic[Item, Result]):
    """The threads of `run_ahead`, and how much lies ahead."""

    def __init__(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        weight: Callable[[Result], int],
        workers: int,
        ahead: int,
    ) -> None:
        self._work, self._items, self._weight = work, items, weight
        self._workers, self._ahead = workers, ahead
        self._pool = ThreadPoolExecutor(max_workers=workers)
        # One thread may come here twice: a run that was dropped is stopped wherever it is
        # collected.
        self._lock = threading.RLock()
        self._begun: deque[Future[Result]] = deque()
        self._number = self._busy = self._waiting = 0

    def next(self) -> Future[Result] | None:
        """What the next item in order gives; None when there are no more."""
        with self._lock:
            self._begin()
            return self._begun.popleft() if self._begun else None

    def give_room(self, weight: int) -> None:
        """A result of this weight is no longer held."""
        with self._lock:
            self._waiting -= weight
            self._begin()

    def stop(self) -> None:
        """Begin nothing more."""
        with self._lock:
            self._number = len(self._items)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        while self._number < len(self._items) and self._busy < self._workers:
            if (taken := self._busy + self._waiting) and taken >= self._ahead:
                return
            self._begun.append(self._pool.submit(self._one, self._items[self._number]))
            self._number += 1
            self._busy += 1

    def _one(self, item: Item) -> Result:
        weight = 1
        try:
            result = self._work(item)
            weight = self._weight(result)
            return result
        finally:
            with self._lock:
                self._busy -= 1
                self._waiting += weight
                self._begin()
