"""The next part of a table is read while one is scored: one ahead, and nothing stays behind."""

import threading
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from mvp.data.tables.manifest import Manifest
from mvp.errors import DataError
from mvp.pipeline.parts_ahead import one_processor_left, parts_ahead
from mvp.types import Labels


def part(*studies):
    ids = np.array(studies, object)
    labels = Labels((), np.empty((len(ids), 0), np.float32))
    return Manifest(ids, ids, labels, ids, pd.DataFrame(), (), len(ids))


class Scorer:
    def __init__(self, looks_up_only=True, error=None):
        self.looks_up_only, self.error = looks_up_only, error
        self.asked = []

    def part(self, manifest):
        self.asked.append((manifest.studies[0], threading.current_thread()))
        if self.error:
            raise self.error
        return f"features of {manifest.studies[0]}"


def names(items):
    return [manifest.studies[0] for manifest, _ in items]


def test_parts_come_in_order_with_their_features():
    scorer = Scorer()
    found = list(parts_ahead(iter([part("a"), (), part("b")]), lambda: scorer))
    assert [None if f is None else f.result() for _, f in found] == [
        "features of a",
        None,
        "features of b",
    ]
    assert {thread for _, thread in scorer.asked}.isdisjoint({threading.main_thread()})


@pytest.mark.parametrize("scorer", [None, Scorer(looks_up_only=False)])
def test_what_opens_images_is_not_run_ahead(scorer):
    found = list(parts_ahead(iter([part("a"), part("b")]), lambda: scorer))
    assert names(found) == ["a", "b"]
    assert all(features is None for _, features in found)
    assert scorer is None or not scorer.asked


def test_no_more_than_one_part_is_read_ahead():
    read, allowed = [], threading.Semaphore(0)

    def table():
        for name in "abcd":
            read.append(name)
            allowed.release()
            yield part(name)

    with closing(parts_ahead(table(), lambda: None)) as ahead:
        next(ahead)
        assert allowed.acquire(timeout=10) and allowed.acquire(timeout=10)
        assert not allowed.acquire(timeout=0.1)
        assert read == ["a", "b"]


def test_an_error_is_raised_in_its_place():
    def table():
        yield part("a")
        raise DataError("line 7 is no row")

    seen = []
    with pytest.raises(DataError, match="line 7"), closing(parts_ahead(table(), lambda: None)) as p:
        seen.extend(manifest.studies[0] for manifest, _ in p)
    assert seen == ["a"]
    scorer = Scorer(error=DataError("gone"))
    ((_, features),) = parts_ahead(iter([part("a")]), lambda: scorer)
    with pytest.raises(DataError, match="gone"):
        features.result()


def test_whoever_stops_early_leaves_no_thread_behind():
    before = set(threading.enumerate())
    with closing(parts_ahead(iter([part(n) for n in "abc"]), Scorer)) as ahead:
        next(ahead)
    assert set(threading.enumerate()) <= before


def test_matrix_products_leave_a_processor(monkeypatch):
    from threadpoolctl import threadpool_info

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    before = [one["num_threads"] for one in threadpool_info()]
    with one_processor_left():
        assert {one["num_threads"] for one in threadpool_info()} == {1}
    assert [one["num_threads"] for one in threadpool_info()] == before
