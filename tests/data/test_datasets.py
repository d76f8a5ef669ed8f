"""Batches: the same whatever the threads, the batch size, the order and the memory."""

import numpy as np
import pytest
import torch

from mvp.config import TransformConfig
from mvp.data.datasets import ImageSet, load_ahead
from mvp.data.readers import Limits
from mvp.data.transforms import Transform
from mvp.errors import ImageError

TRANSFORM = Transform(TransformConfig(size=16))
N = 16


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.npy" for i in range(N)]
    for path in paths:
        np.save(path, rng.integers(0, 255, (20, 16), np.uint8))
    return [str(path) for path in paths]


def images(files, **settings):
    return ImageSet(files, TRANSFORM, **settings)


def rows(image_set, order, size):
    return torch.cat(list(image_set.batches(np.array(order), size)))


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_results_do_not_depend_on_threads_order_batches_or_memory(files, workers, memory):
    wanted = rows(images(files, workers=1), range(N), N)
    shuffled = np.random.default_rng(1).permutation(N)
    image_set = images(files, workers=workers, memory_bytes=memory)
    for _ in range(2):
        for size in (1, 5, N, 100):
            assert torch.equal(rows(image_set, range(N), size), wanted)
            assert torch.equal(rows(image_set, shuffled, size), wanted[shuffled])


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_an_order_may_repeat_and_leave_out(files, memory):
    wanted = rows(images(files), range(N), N)
    image_set = images(files, memory_bytes=memory)
    order = [3, 3, 0, 15, 3, 0]
    assert torch.equal(rows(image_set, order, 2), wanted[order])
    assert torch.equal(rows(image_set, [15, 1], 2), wanted[[15, 1]])
    assert list(image_set.batches(np.array([], int), 4)) == []


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_two_iterators_at_a_time_do_not_mix_their_rows(files, memory):
    wanted = rows(images(files), range(N), N)
    image_set = images(files, memory_bytes=memory)
    slow = image_set.batches(np.arange(N), 1)
    got = [next(slow)]
    assert torch.equal(rows(image_set, [1, 5, 9], 3), wanted[[1, 5, 9]])
    got += list(slow)
    assert torch.equal(torch.cat(got), wanted)
    assert torch.equal(rows(image_set, range(N), 4), wanted)


def test_an_iterator_left_half_way_does_no_harm(files):
    wanted = rows(images(files), range(N), N)
    image_set = images(files)
    started = image_set.batches(np.arange(N), 3)
    next(started)
    started.close()
    assert torch.equal(rows(image_set, range(N), 4), wanted)


def test_what_is_kept_is_not_read_again(files):
    from pathlib import Path

    image_set = images(files)
    wanted = rows(image_set, range(N), 4)
    for file in files:
        Path(file).unlink()
    assert torch.equal(rows(image_set, range(N), 4), wanted)


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_a_damaged_image_raises_and_names_its_file(files, memory):
    from pathlib import Path

    Path(files[7]).write_bytes(b"no image")
    image_set = images(files, memory_bytes=memory)
    with pytest.raises(ImageError) as caught:
        rows(image_set, range(N), 4)
    assert files[7] in str(caught.value)


def test_an_image_that_decodes_and_cannot_be_prepared_names_its_file(files):
    np.save(files[2], np.zeros((4, 4), np.float32))
    (error,) = load_ahead([files[2]], TRANSFORM, Limits(), 2, 4)
    assert isinstance(error, ImageError)
    assert files[2] in str(error)


def test_any_error_of_a_preparation_is_an_image_error(files):
    class Broken:
        def prepare(self, pixels):
            raise ZeroDivisionError("x\ny")

    (error,) = load_ahead([files[0]], Broken(), Limits(), 2, 4)
    assert isinstance(error, ImageError)
    assert str(error).isprintable()


@pytest.mark.parametrize("ahead", [0, 1, 100])
def test_loading_ahead_keeps_the_order_and_errors_in_their_place(files, ahead):
    mixed = [files[0], "none.png", files[1], files[0]]
    got = list(load_ahead(mixed, TRANSFORM, Limits(), 3, ahead))
    assert [isinstance(g, ImageError) for g in got] == [False, True, False, False]
    assert torch.equal(got[0], got[3])
    assert not torch.equal(got[0], got[2])


def test_an_iterator_may_be_dropped_in_one_of_its_own_threads(files, monkeypatch):
    """The collector runs wherever it likes; a thread that joins itself is an error."""
    import threading

    from mvp.data import datasets

    dropped, problems, held = threading.Event(), [], []
    read = datasets.read_image

    def drop(file, limits):
        if file == files[5]:
            dropped.wait(5)
            try:
                held.pop().close()
            except RuntimeError as error:
                problems.append(error)
        return read(file, limits)

    monkeypatch.setattr(datasets, "read_image", drop)
    held.append(load_ahead(files, TRANSFORM, Limits(), 1, 8))
    next(held[0])
    threads = [t for t in threading.enumerate() if "ThreadPool" in t.name]
    dropped.set()
    for thread in threads:
        thread.join(10)
    assert held == []
    assert problems == []
