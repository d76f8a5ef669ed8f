"""Batches: the same whatever the threads, the batch size, the order and the memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mvp.config import TransformConfig
from mvp.data.datasets import InputSet
from mvp.data.inputs import ImageInputs
from mvp.data.loading import Request, load_instances
from mvp.data.reading.readers import Limits
from mvp.data.transforms import Transform
from mvp.errors import ImageError, MissingExtraError
from mvp.files import digest_file

TRANSFORM = Transform(TransformConfig(size=16))
N = 16


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.npy" for i in range(N)]
    for path in paths:
        np.save(path, rng.integers(0, 255, (20, 16), np.uint8))
    return [str(path) for path in paths]


def firsts(files):
    """One request for every file: its first image."""
    return [Request(f, None, (0,)) for f in files]


def images(files, **settings):
    return InputSet(firsts(files), ImageInputs(TRANSFORM), **settings)


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
    image_set = images(files)
    wanted = rows(image_set, range(N), 4)
    for file in files:
        Path(file).unlink()
    assert torch.equal(rows(image_set, range(N), 4), wanted)


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_a_damaged_image_raises_and_names_its_file(files, memory):
    Path(files[7]).write_bytes(b"no image")
    image_set = images(files, memory_bytes=memory)
    with pytest.raises(ImageError) as caught:
        rows(image_set, range(N), 4)
    assert files[7] in str(caught.value)


def test_an_image_that_decodes_and_cannot_be_prepared_names_its_file(files):
    np.save(files[2], np.zeros((4, 4), np.float32))
    (error,) = load_instances(firsts([files[2]]), TRANSFORM, Limits(), 2, 4)
    assert isinstance(error, ImageError)
    assert files[2] in str(error)


def test_any_error_of_a_preparation_is_an_image_error(files):
    class Broken:
        def prepare(self, pixels, shown):
            raise ZeroDivisionError("x\ny")

    (error,) = load_instances(firsts([files[0]]), Broken(), Limits(), 2, 4)
    assert isinstance(error, ImageError)
    assert str(error).isprintable()


@pytest.mark.parametrize("ahead", [0, 1, 100])
def test_loading_ahead_keeps_the_order_and_errors_in_their_place(files, ahead):
    mixed = [files[0], "none.png", files[1], files[0]]
    got = list(load_instances(firsts(mixed), TRANSFORM, Limits(), 3, ahead))
    assert [isinstance(g, ImageError) for g in got] == [False, True, False, False]
    assert torch.equal(got[0], got[3])
    assert not torch.equal(got[0], got[2])


def test_an_iterator_may_be_dropped_in_one_of_its_own_threads(files, monkeypatch):
    """The collector runs wherever it likes; a thread that joins itself is an error."""
    import threading

    from mvp.data import loading

    dropped, problems, held = threading.Event(), [], []
    read = loading.decode

    def drop(file, limits, **settings):
        if file == files[5]:
            dropped.wait(5)
            try:
                held.pop().close()
            except RuntimeError as error:
                problems.append(error)
        return read(file, limits, **settings)

    monkeypatch.setattr(loading, "decode", drop)
    others = set(threading.enumerate())  # idle ones of other libraries never end
    held.append(load_instances(firsts(files), TRANSFORM, Limits(), 1, 8))
    next(held[0])
    threads = [t for t in set(threading.enumerate()) - others if "ThreadPool" in t.name]
    assert threads
    dropped.set()
    for thread in threads:
        thread.join(10)
    assert held == []
    assert problems == []


@pytest.fixture
def volumes(tmp_path):
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"v{i}.npy" for i in range(6)]
    for i, path in enumerate(paths):
        np.save(path, rng.integers(0, 255, (2 + 3 * i, 20, 16), np.uint8))
    return [str(path) for path in paths]


def whole(file, digest=None):
    return Request(file, digest, tuple(range(len(np.load(file)))))


def bags(requests, **settings):
    return InputSet(requests, ImageInputs(TRANSFORM), **settings)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_a_volume_s_slices_come_in_order_whatever_the_batches(volumes, files, workers, memory):
    requests = [whole(volumes[3]), Request(files[0], None, (0,)), whole(volumes[0])]
    wanted = []
    for request in requests:
        array = np.load(request.file)
        wanted.append([TRANSFORM.prepare(p) for p in (array if array.ndim == 3 else array[None])])
    image_set = bags(requests, workers=workers, memory_bytes=memory)
    assert image_set.counts.tolist() == [11, 1, 2]
    for order in ([0, 1, 2], [2, 0, 2], [1], [2, 1, 0]):
        for size in (1, 4, 100):
            got = list(image_set.batches(np.array(order), size))
            assert all(len(part) == size for part in got[:-1])
            assert torch.equal(torch.cat(got), torch.stack([s for i in order for s in wanted[i]]))


def test_single_images_are_no_bags(files):
    assert images(files).counts is None
    assert images(files).augmentation is None


def test_a_volume_left_half_way_is_read_again(volumes):
    image_set = bags([whole(volumes[3])])
    started = image_set.batches(np.array([0]), 4)
    next(started)
    started.close()
    assert torch.equal(
        rows(image_set, [0], 5), rows(bags([whole(volumes[3])], memory_bytes=0), [0], 5)
    )


def test_volumes_are_kept_only_when_all_slices_fit(volumes):
    requests = [whole(v) for v in volumes[:3]]
    size = 15 * 16 * 16 * 4
    for memory, kept in ((size, True), (size - 1, False)):
        image_set = bags(requests, memory_bytes=memory)
        wanted = rows(image_set, range(3), 4)
        contents = {v: Path(v).read_bytes() for v in volumes[:3]}
        for volume in volumes[:3]:
            Path(volume).unlink()
        if kept:
            assert torch.equal(rows(image_set, range(3), 4), wanted)
        else:
            with pytest.raises(ImageError):
                rows(image_set, range(3), 4)
        for volume, content in contents.items():
            Path(volume).write_bytes(content)


def test_a_volume_that_is_another_since_its_scan_is_an_error(volumes):
    right = digest_file(Path(volumes[1]))
    image_set = bags([whole(volumes[1], right)], memory_bytes=0)
    rows(image_set, [0], 4)
    np.save(volumes[1], np.load(volumes[1])[::-1])
    with pytest.raises(ImageError, match="changed"):
        rows(image_set, [0], 4)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ahead", [0, 1, 7, 1000])
def test_instances_come_in_order_whatever_the_threads(volumes, files, workers, ahead):
    requests = [whole(v) for v in volumes]
    requests[2:2] = [Request(files[0], None, (0,)), Request(volumes[5], None, (1, 4, 16))]
    got = list(load_instances(iter(requests), TRANSFORM, Limits(), workers, ahead))
    wanted = []
    for request in requests:
        array = np.load(request.file)
        stack = array if array.ndim == 3 else array[None]
        wanted += [TRANSFORM.prepare(stack[i]) for i in request.instances]
    assert len(got) == len(wanted)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_a_file_is_decoded_once_for_all_its_instances(volumes, monkeypatch):
    from mvp.data import loading

    seen = []
    read = loading.decode
    monkeypatch.setattr(loading, "decode", lambda f, x, **s: seen.append(f) or read(f, x, **s))
    list(load_instances([whole(v) for v in volumes], TRANSFORM, Limits(), 2, 8))
    assert sorted(seen) == sorted(volumes)


@pytest.mark.parametrize("ahead", [1, 4, 12])
def test_no_more_than_so_many_instances_are_under_way(volumes, files, ahead):
    """What is pulled is what was claimed: a generator must not be drained ahead of its use."""
    requests = [whole(volumes[i % 6]) for i in range(30)] + [Request(files[0], None, (0,))] * 20
    pulled = []

    def claim():
        for request in requests:
            pulled.append(request)
            yield request

    loaded = load_instances(claim(), TRANSFORM, Limits(), 2, ahead)
    assert pulled == []  # before the first is asked for
    given = 0
    for _ in loaded:
        under_way = sum(len(r.instances) for r in pulled) - given
        # One more may have been pulled, to see that it does not fit.
        assert under_way - len(pulled[-1].instances) <= max(ahead, 17)
        assert under_way <= max(ahead, 17) + len(pulled[-1].instances)
        given += 1
    assert given == sum(len(r.instances) for r in requests)
    assert pulled == requests


def test_a_volume_larger_than_the_room_goes_alone(volumes, monkeypatch):
    import threading

    from mvp.data import loading

    lock, running, most = threading.Lock(), [0], [0]
    read = loading.decode

    def counting(file, limits, **settings):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return read(file, limits, **settings)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(loading, "decode", counting)
    requests = [whole(v) for v in volumes[1:]] * 3  # of 5 to 17 instances each
    assert len(list(load_instances(requests, TRANSFORM, Limits(), 4, 4))) == 3 * 55
    assert most == [1]


def test_the_next_volume_is_decoded_while_the_last_one_is_handed_out(volumes):
    pulled = []

    def claim():
        for _ in range(3):
            pulled.append(1)
            yield whole(volumes[2])  # of 8 instances

    loaded = load_instances(claim(), TRANSFORM, Limits(), 2, 12)
    for _ in range(6):
        next(loaded)
    assert len(pulled) >= 2


def test_a_request_for_nothing_gives_nothing(volumes):
    requests = [Request(volumes[0], None, ()), whole(volumes[1]), Request("none.npy", None, ())]
    assert len(list(load_instances(requests, TRANSFORM, Limits(), 2, 0))) == 5
    assert list(load_instances([], TRANSFORM, Limits(), 2, 4)) == []


def test_a_damaged_volume_is_an_error_for_each_of_its_instances(volumes):
    request = whole(volumes[1])
    Path(volumes[1]).write_bytes(b"no array")
    requests = [whole(volumes[0]), request, whole(volumes[2])]
    got = list(load_instances(requests, TRANSFORM, Limits(), 2, 4))
    assert [isinstance(g, ImageError) for g in got] == [False] * 2 + [True] * 5 + [False] * 8
    assert volumes[1] in str(got[2])


def test_one_instance_that_cannot_be_prepared_is_an_error_of_its_own(volumes):
    class Picky:
        def __init__(self):
            self.seen = 0

        def prepare(self, pixels, shown):
            self.seen += 1
            if self.seen == 2:
                raise ZeroDivisionError("x\ny")
            return TRANSFORM.prepare(pixels, shown)

    got = list(load_instances([whole(volumes[1])], Picky(), Limits(), 1, 9))
    assert [isinstance(g, ImageError) for g in got] == [False, True, False, False, False]
    assert volumes[1] in str(got[1])
    assert str(got[1]).isprintable()


def test_an_instance_that_is_not_there_is_an_error(volumes):
    got = list(load_instances([Request(volumes[0], None, (0, 2, 9))], TRANSFORM, Limits(), 2, 4))
    assert [isinstance(g, ImageError) for g in got] == [False, True, True]
    assert "2 images" in str(got[1])


def test_a_file_of_other_content_is_refused(volumes):
    right = digest_file(Path(volumes[0]))
    requests = [whole(volumes[0], right), whole(volumes[1], right)]
    got = list(load_instances(requests, TRANSFORM, Limits(), 2, 4))
    assert [isinstance(g, ImageError) for g in got] == [False] * 2 + [True] * 5
    assert "changed" in str(got[2])


def test_a_missing_library_ends_the_run_and_is_no_fault_of_an_image(volumes, monkeypatch):
    from mvp.data import loading

    def missing(*_, **__):
        raise MissingExtraError("pydicom", "dicom", "reading DICOM")

    monkeypatch.setattr(loading, "decode", missing)
    with pytest.raises(MissingExtraError):
        list(load_instances([whole(volumes[0])], TRANSFORM, Limits(), 2, 4))


def test_an_error_of_the_claiming_generator_comes_through(volumes):
    def claim():
        yield whole(volumes[0])
        raise LookupError("the ledger is gone")

    loaded = load_instances(claim(), TRANSFORM, Limits(), 2, 1)
    with pytest.raises(LookupError):
        list(loaded)
