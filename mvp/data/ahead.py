"""Work that threads do ahead of whoever asks for its results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

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
