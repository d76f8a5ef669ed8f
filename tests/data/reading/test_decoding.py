"""Decoders: what a file does to its reader costs that file alone, and no more than its time."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mvp.data.reading import decoding_pool
from mvp.data.reading.decoder import pixel_digest
from mvp.data.reading.decoding import decode, examine, says_burned_in
from mvp.data.reading.decoding_pool import Pool
from mvp.data.reading.limits import Limits
from mvp.data.reading.readers import read_stack
from mvp.data.reading.stack import Shown, Stack, Window
from mvp.data.reading.texts import text_digest
from mvp.data.splits.near import thumbnail
from mvp.errors import ImageError, MissingExtraError, MvpError
from mvp.files import digest_file
from tests.data import odd_library
from tests.data.odd_library import order

LIMITS = Limits()
HASTY = Limits(max_seconds=1.0)


@pytest.fixture
def pool(monkeypatch):
    """A pool of this test alone."""
    own = Pool()
    monkeypatch.setattr(decoding_pool._process, "pool", own)
    yield own
    own.close()
    assert not any(runs(pid) for pid in own.processes)


@pytest.fixture
def odd(tmp_path, monkeypatch, pool):
    """Decoders whose NIfTI library misbehaves on command."""
    monkeypatch.syspath_prepend(odd_library.install(tmp_path / "library"))
    return pool


def runs(pid):
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def gone(pids, seconds=10):
    deadline = time.monotonic() + seconds
    while any(runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(runs(pid) for pid in pids)


def refusal(call, *arguments):
    with pytest.raises(ImageError) as caught:
        call(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(np.arange(20 * 16, dtype=np.uint8).reshape(20, 16)).save(path)
    return str(path)


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume.npy"
    np.save(path, np.random.default_rng(0).random((5, 300, 200), dtype=np.float32))
    return str(path)


def test_another_process_gives_what_the_reader_gives(film, volume):
    for file in (film, volume):
        here, there = read_stack(file), decode(file, LIMITS)
        assert there.stack.pixels.dtype == here.pixels.dtype
        np.testing.assert_array_equal(there.stack.pixels, here.pixels)
        assert there.total == len(here)
        assert [there.stack.shown_at(i) for i in range(len(here))] == [
            here.shown_at(i) for i in range(len(here))
        ]


def test_some_instances_are_those_alone(volume):
    found = decode(volume, LIMITS, instances=(1, 4, 9))
    assert (list(found.numbers), found.total) == ([1, 4], 5)
    np.testing.assert_array_equal(found.stack.pixels, np.load(volume)[[1, 4]])
    nothing = decode(volume, LIMITS, instances=(7,))
    assert (len(nothing.stack), nothing.total) == (0, 5)


def test_what_is_in_a_file(film, volume, tmp_path):
    content = examine(volume, LIMITS)
    assert content.digest == digest_file(Path(volume))
    assert (content.shape, content.bits, content.instances) == ((300, 200), 32, 5)
    assert content.pixels == pixel_digest(read_stack(volume))
    assert content.look == thumbnail(np.load(volume)[2]).hex()
    assert content.error is None
    assert examine(film, LIMITS).look == thumbnail(np.asarray(Image.open(film))).hex()


def test_a_text_is_its_characters(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(" No focal\r\n opacity. ")
    content = examine(str(path), LIMITS)
    assert content.pixels == text_digest("No focal opacity.")
    assert (content.shape, content.bits, content.instances, content.look) == ((17,), 8, 1, "")
    path.write_bytes(b"a\0b")
    refused = examine(str(path), LIMITS)
    assert "no text" in str(refused.error)
    assert refused.digest == digest_file(path)
    assert refused.pixels is None


def test_equal_values_that_are_shown_in_other_ways_are_other_images():
    pixels = np.zeros((2, 4, 4), np.uint16)
    wide, narrow = Shown(window=Window(10, 20)), Shown(window=Window(10, 5))
    ways = [(), (wide,), (narrow,), (wide, narrow), (narrow, wide), (Shown(low=0.0),)]
    digests = {pixel_digest(Stack(pixels, *([way] if way else []))) for way in ways}
    assert len(digests) == len(ways)
    assert pixel_digest(Stack(pixels, (wide, wide))) == pixel_digest(Stack(pixels, (wide,)))
    one = pixels[:1]
    assert pixel_digest(Stack(one)) != pixel_digest(Stack(one, (wide,)))


def test_an_error_is_the_same_as_without_another_process(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 4), np.int64))
    here = refusal(read_stack, path)
    assert str(refusal(decode, str(path), LIMITS)) == str(here)
    assert str(examine(str(path), LIMITS).error) == str(here)
    # It names the file as it was asked for, wherever the decoder was started.
    monkeypatch.chdir(tmp_path)
    assert refusal(decode, "a.npy", LIMITS).path == "a.npy"
    np.save(path, np.zeros((4, 4), np.uint8))
    assert decode("a.npy", Limits(root=".")).total == 1


def test_a_library_that_is_missing_ends_the_run(tmp_path, monkeypatch, pool):
    folder = odd_library.install(tmp_path / "library")
    (folder / "nibabel.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(folder)
    file = order(tmp_path / "a.nii", "")
    for ask in (decode, examine):
        with pytest.raises(MissingExtraError, match="nibabel") as caught:
            ask(file, LIMITS)
        assert "pip install" in str(caught.value)
    assert len(pool.processes) == 1


@pytest.mark.parametrize("what", ["crash", "exit", "leave"])
def test_a_library_that_ends_its_process_costs_one_error(tmp_path, odd, film, what):
    file = order(tmp_path / "a.nii", what)
    before = decode(film, LIMITS)
    assert before.total == 1
    (pid,) = odd.processes
    error = refusal(decode, file, LIMITS)
    assert "died" in error.what
    assert error.path == file
    assert error.remedy
    assert gone([pid])
    assert odd.processes == []
    assert "died" in str(examine(file, LIMITS).error)
    np.testing.assert_array_equal(decode(film, LIMITS).stack.pixels, before.stack.pixels)
    assert len(odd.processes) == 1


def test_a_decoder_that_is_killed_while_it_decodes_costs_one_error(tmp_path, odd, film):
    decode(film, LIMITS)
    (pid,) = odd.processes
    file = order(tmp_path / "a.nii", "sleep")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(decode, file, LIMITS)
        time.sleep(0.3)
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(ImageError, match="died"):
            waiting.result(10)
    assert decode(film, LIMITS).total == 1


def test_a_decoder_that_died_in_its_sleep_costs_nothing(odd, film):
    decode(film, LIMITS)
    (pid,) = odd.processes
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    assert decode(film, LIMITS).total == 1


def test_a_file_that_takes_too_long_is_given_up(tmp_path, odd, film):
    file = order(tmp_path / "a.nii", "sleep")
    decode(film, LIMITS)
    pids, start = odd.processes, time.monotonic()
    error = refusal(decode, file, HASTY)
    assert 1.0 <= time.monotonic() - start < 3
    assert "1 seconds" in error.what
    assert "data.max_seconds" in error.remedy
    assert gone(pids)
    assert decode(film, HASTY).total == 1
    assert "data.max_seconds" in str(examine(file, HASTY).error)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [3, 8])
def test_a_process_that_was_stopped_gives_no_file_up(tmp_path, seconds):
    """By Ctrl-Z, or by a scheduler: for longer than our clock allows, and than the decoder's."""
    file, other = str(tmp_path / "a.npy"), str(tmp_path / "b.npy")
    for path in (file, other):
        np.save(path, np.random.default_rng(0).random((20, 1000, 1000), np.float32))
    path = tmp_path / "script.py"
    path.write_text(
        "import sys; from mvp.data.reading.decoding import examine\n"
        "from mvp.data.reading.limits import Limits\n"
        "for file in 5 * sys.argv[1:]:\n"
        "    print(examine(file, Limits(max_seconds=2)).error, flush=True)\n"
    )
    program = [sys.executable, str(path), file, other]
    process = subprocess.Popen(program, start_new_session=True, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(0.1)  # in the midst of a file
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGCONT)
    assert set(process.communicate(timeout=100)[0].split()) == {"None"}


def test_a_small_file_that_is_at_work_for_long_goes_round_in_circles(tmp_path, odd, film):
    """Its processor time is bounded by what it announces, below the limit for slow disks."""
    error = refusal(decode, order(tmp_path / "a.nii", "spin"), LIMITS)
    assert "more time than its header" in error.what
    assert "data.max_seconds" in error.remedy
    assert decode(film, LIMITS).total == 1


def test_files_beside_a_slow_one_do_not_wait(tmp_path, odd, film):
    file = order(tmp_path / "a.nii", "sleep")
    with ThreadPoolExecutor(2) as threads:
        slow = threads.submit(decode, file, Limits(max_seconds=3))
        start = time.monotonic()
        for _ in range(20):
            assert threads.submit(decode, film, LIMITS).result(3).total == 1
        assert time.monotonic() - start < 2.9
        assert not slow.done()
        assert "3 seconds" in str(slow.exception(10))


def test_memory_beyond_what_the_header_announces_is_an_error(tmp_path, odd, film):
    """At once, and the decoder goes on."""
    decode(film, LIMITS)
    pids = odd.processes
    error = refusal(decode, order(tmp_path / "a.nii", f"fill {2 << 30}"), LIMITS)
    assert "memory" in error.what
    assert "memory" in str(examine(order(tmp_path / "a.nii", f"fill {2 << 30}"), LIMITS).error)
    decode(film, LIMITS)
    assert odd.processes == pids
    # The same within what any file may take.
    error = refusal(decode, order(tmp_path / "a.nii", f"fill {64 << 20}"), LIMITS)
    assert "memory" not in error.what


def test_what_is_announced_may_be_taken():
    program = """
        import numpy
        from mvp.data.reading.decoding_memory import BYTES_PER_PIXEL, FLOOR_BYTES, allowance

        def fits(size):
            try:
                numpy.empty(size, "u1")
            except MemoryError:
                return False
            return True

        allowance.announce(10**12)  # nothing is bounded before it begins
        allowance.begin(0)
        print(fits(FLOOR_BYTES // 2), fits(FLOOR_BYTES * 5 // 4))
        allowance.announce(FLOOR_BYTES // BYTES_PER_PIXEL)
        print(fits(FLOOR_BYTES), fits(3 * FLOOR_BYTES))
        allowance.begin(0)
        print(fits(FLOOR_BYTES * 5 // 4))
        allowance.end()
        print(fits(4 * FLOOR_BYTES))
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert said == ["True", "False", "True", "False", "False", "True"]


def test_what_libraries_print_and_raise_reaches_nobody(tmp_path, odd, capfd):
    error = refusal(decode, order(tmp_path / "a.nii", "print ZZSECRET"), LIMITS)
    assert "ZZSECRET" not in str(error)
    assert "ValueError" in str(error)
    assert "ZZSECRET" not in str(examine(order(tmp_path / "a.nii", "print ZZSECRET"), LIMITS))
    out = capfd.readouterr()
    assert out.out + out.err == ""


def test_a_recursion_without_end_is_an_error(tmp_path, odd):
    assert "Recursion" in str(refusal(decode, order(tmp_path / "a.nii", "recurse"), LIMITS))


def test_a_file_exchanged_while_it_is_read_is_an_error(tmp_path, odd):
    """For a link that leads elsewhere by then, or for another file."""
    inside, outside = tmp_path / "data", tmp_path / "outside.nii"
    inside.mkdir()
    file = inside / "a.nii"
    order(outside, "")
    order(file, f"swap {file}")
    (inside / "a.nii.other").symlink_to(outside)
    for ask in (decode, lambda *a: (_ for _ in ()).throw(examine(*a).error)):
        order(file, f"swap {file}") if not file.is_symlink() else None
        error = refusal(ask, str(file), Limits(root=str(inside)))
        assert file.is_symlink()
        assert "decoded" in error.what or "leads out" in error.what


def test_a_file_of_another_digest_is_refused(film):
    assert decode(film, LIMITS, digest=digest_file(Path(film))).total == 1
    with pytest.raises(ImageError, match="changed while"):
        decode(film, LIMITS, digest="0" * 64)


def odd_paths(folder):
    """Names that are no files, and what is said of them."""
    os.mkfifo(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "folder.png").mkdir()
    (folder / "to_pipe.nii").symlink_to(folder / "pipe.png")
    names = ["pipe.png", "zero.png", "loop.png", "folder.png", "to_pipe.nii", "none.png"]
    return [*(str(folder / n) for n in names), str(folder / ("x" * 10_000)), "a\0b.png"]


def test_paths_that_are_no_files_are_refused_at_once(tmp_path):
    start = time.monotonic()
    for file in odd_paths(tmp_path):
        for ask in (decode, lambda *a: (_ for _ in ()).throw(examine(*a).error)):
            error = refusal(ask, file, LIMITS)
            assert error.path == file
    assert time.monotonic() - start < 5


def test_a_header_is_asked_in_another_process_too(tmp_path, monkeypatch, pool):
    """Whether names are burned in: a pipe does not block, a library that dies costs no run."""
    assert {says_burned_in(file, LIMITS) for file in odd_paths(tmp_path)} == {"unsaid"}
    folder = odd_library.install(tmp_path / "library")
    (folder / "pydicom.py").write_text("import os; os._exit(1)")
    monkeypatch.syspath_prepend(folder)
    pool.close()
    film = tmp_path / "a.dcm"
    film.write_bytes(b"x")
    assert says_burned_in(str(film), LIMITS) == "unsaid"
    (folder / "pydicom.py").write_text("raise ImportError")
    with pytest.raises(MissingExtraError, match="pydicom"):
        says_burned_in(str(film), LIMITS)


def test_a_file_without_leave_to_read_is_an_error(film, monkeypatch):
    if os.geteuid() == 0:
        pytest.skip("nothing is forbidden to the superuser")
    Path(film).chmod(0)
    assert "cannot be read" in str(refusal(decode, film, LIMITS))


def test_many_threads_never_get_each_others_pixels(tmp_path, pool):
    files = []
    for i in range(40):
        files.append(str(tmp_path / f"{i}.npy"))
        np.save(files[-1], np.full((3 + i, 5), i, np.uint8))

    def right(i):
        if i % 7 == 0:
            assert "there" in str(refusal(decode, str(tmp_path / "none.npy"), LIMITS))
        pixels = decode(files[i], LIMITS).stack.pixels
        return pixels.shape == (1, 3 + i, 5) and (pixels == i).all()

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(right, [i % 40 for i in range(400)]))
    assert 1 <= len(pool.processes) <= 6


def test_decoders_are_kept_between_calls(film, pool):
    for _ in range(5):
        decode(film, LIMITS)
    pids = pool.processes
    examine(film, LIMITS)
    assert pool.processes == pids
    assert len(pids) == 1


def test_decoders_with_nothing_to_do_end(film, pool, monkeypatch):
    monkeypatch.setattr(decoding_pool, "_IDLE_SECONDS", 0.2)
    decode(film, LIMITS)
    assert gone(pool.processes, 5)
    assert decode(film, LIMITS).total == 1


def test_a_forked_process_has_decoders_of_its_own(film, pool):
    decode(film, LIMITS)
    pids = pool.processes
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            total = decode(film, LIMITS).total
            own = decoding_pool.pool()
            code = 0 if total == 1 and not set(own.processes) & set(pids) else 2
            own.close()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert decode(film, LIMITS).total == 1
    assert pool.processes == pids


def test_a_process_forked_while_a_thread_waits_for_a_decoder_goes_on(tmp_path, odd, film):
    """The lock of the pipe that the thread reads is copied locked; nobody is left to open it."""
    slow = order(tmp_path / "a.nii", "sleep")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(decode, slow, Limits(max_seconds=3))
        time.sleep(0.5)
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                code = 0 if decode(film, LIMITS).total == 1 else 2
                decoding_pool.pool().close()
            os._exit(code)
        for _ in range(100):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.1)
        else:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
        assert os.waitstatus_to_exitcode(status) == 0
        # The parent's own question was not taken from it.
        assert "3 seconds" in str(waiting.exception(10))


def test_a_decoder_that_cannot_start_is_no_fault_of_the_file(film, pool, monkeypatch):
    for program in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", program)
        for ask in (decode, examine):
            with pytest.raises(MvpError, match="no decoder process") as caught:
                ask(film, LIMITS)
            assert not isinstance(caught.value, ImageError)
            assert "import mvp.data.reading.decoder" in str(caught.value)
    assert pool.processes == []


def test_a_decoder_loads_readers_alone():
    heavy = ("torch", "pandas", "pydantic", "scipy", "PIL", "pydicom", "nibabel", "pyarrow")
    program = (
        f"import mvp.data.reading.decoder, sys; print([m for m in {heavy} if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


SCRIPT = """
    import sys
    print("ran", flush=True)
    from mvp.data.reading.decoding import decode
    from mvp.data.reading.decoding_pool import pool
    from mvp.data.reading.limits import Limits
    sys.path.insert(0, sys.argv[1])
    decode(sys.argv[2], Limits())
    print(*pool().processes, flush=True)
    if len(sys.argv) > 3:
        decode(sys.argv[3], Limits(max_seconds=float(sys.argv[4])))
    sys.stdin.read()
"""


def script(tmp_path, *arguments):
    """A user's script without a main guard."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    library = odd_library.install(tmp_path / "library")
    return subprocess.Popen(
        [sys.executable, str(path), str(library), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_script_runs_once_and_leaves_no_process(tmp_path, film):
    process = script(tmp_path, film)
    out, err = process.communicate(timeout=60)
    ran, pids = out.splitlines()
    assert (process.returncode, ran, err) == (0, "ran", "")
    assert gone(map(int, pids.split()))


@pytest.mark.parametrize("busy", [False, True])
def test_decoders_end_with_their_parent_also_when_it_is_killed(tmp_path, film, busy):
    """One that hangs has nobody left to end it: its own clock does."""
    slow = [order(tmp_path / "a.nii", "sleep"), "0.5"]
    process = script(tmp_path, film, *slow) if busy else script(tmp_path, film)
    process.stdout.readline()
    pids = [int(pid) for pid in process.stdout.readline().split()]
    time.sleep(0.2 if busy else 0)
    process.kill()
    process.communicate()
    assert pids
    assert gone(pids, 12)


def test_an_interrupt_ends_the_decoder_that_was_asked(tmp_path, film):
    process = script(tmp_path, film, order(tmp_path / "a.nii", "sleep"), "1000")
    process.stdout.readline()
    pids = [int(pid) for pid in process.stdout.readline().split()]
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=10)[1]
    assert "KeyboardInterrupt" in err
    assert gone(pids)
