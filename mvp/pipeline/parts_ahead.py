"""The next part of a long table is read while the one before it is scored."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

from mvp.data.tables.ids import RefusedRow
from mvp.data.tables.manifest import Manifest
from mvp.pipeline.scoring import ScoredPart, Scorer

Part = Manifest | tuple[RefusedRow, ...]


def parts_ahead(
    found: Iterator[Part], scorer: Callable[[], Scorer | None]
) -> Generator[tuple[Part, Future[ScoredPart] | None], None, None]:
    """The parts of a table in order, each with its features where they could be looked up already.

    One part is read ahead, in a thread. What goes wrong with it is raised when it is asked for.
    Closing the generator waits for the part that is being read.

    Args:
        found: reads the next part when it is asked for it.
        scorer: gives what looks features up; None as long as there is none.
    """

    def read() -> tuple[Part | None, Future[ScoredPart] | None]:
        part, own = next(found, None), scorer()
        if not isinstance(part, Manifest) or own is None or not own.looks_up_only:
            return part, None
        return part, lookups.submit(own.part, part)

    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as lookups:
        coming = reader.submit(read)
        while (ready := coming.result())[0] is not None:
            coming = reader.submit(read)
            yield ready[0], ready[1]


@contextmanager
def one_processor_left() -> Iterator[None]:
    """Matrix products leave a processor to the thread that reads ahead.

    Their threads wait for the next product in a loop that takes all of a processor.
    """
    most = max(1, (os.cpu_count() or 1) - 1)
    found = ThreadpoolController()
    limits = {one["prefix"]: min(one["num_threads"], most) for one in found.info()}
    with found.limit(limits=limits):
        yield
