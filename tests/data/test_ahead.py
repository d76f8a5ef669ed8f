"""Work done ahead: in order, as far ahead as there is room, and nothing after its end."""

import threading
import time

import pytest

from mvp.data.ahead import run_ahead


def eventually(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_results_come_in_the_order_of_the_items(workers, ahead):
    def work(i):
        time.sleep(0.002 * (i % 3))
        return i * i

    found = run_ahead(work, range(40), lambda result: 1 + result % 5, workers, ahead)
    assert list(found) == [i * i for i in range(40)]
    assert list(run_ahead(work, [], lambda _: 1, workers, ahead)) == []


def test_threads_go_on_while_nobody_asks_until_there_is_no_room():
    done = []
    found = run_ahead(lambda i: done.append(i) or i, range(100), lambda _: 1, 2, 10)
    assert next(found) == 0
    assert eventually(lambda: len(done) == 10)
    time.sleep(0.05)
    assert len(done) == 10
    # One that was handed out holds its room until the next one is asked for.
    assert next(found) == 1
    assert eventually(lambda: len(done) == 11)
    found.close()


def test_room_is_what_results_weigh_not_their_number():
    done = []
    found = run_ahead(lambda i: done.append(i) or i, range(100), lambda _: 8, 1, 10)
    assert next(found) == 0
    # 0 at 8 leaves room to begin 1, and the two of them none.
    assert eventually(lambda: len(done) == 2)
    time.sleep(0.05)
    assert done == [0, 1]
    assert list(found) == list(range(1, 100))


def test_one_that_takes_more_than_all_the_room_is_not_waited_for_in_vain():
    assert list(run_ahead(lambda i: i, range(5), lambda _: 1000, 2, 3)) == list(range(5))


def test_an_error_is_raised_in_its_place():
    def work(i):
        if i == 3:
            raise ValueError(i)
        return i

    found = run_ahead(work, range(6), lambda _: 1, 2, 100)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(found)


def test_nothing_is_begun_after_the_end():
    begun, go_on = [], threading.Event()

    def work(i):
        begun.append(i)
        if i:
            go_on.wait(10)
        return i

    found = run_ahead(work, range(100), lambda _: 1, 2, 100)
    assert next(found) == 0
    assert eventually(lambda: begun == [0, 1, 2])
    found.close()  # at once, although two are under way
    go_on.set()
    time.sleep(0.1)
    assert begun == [0, 1, 2]
