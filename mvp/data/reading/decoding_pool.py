"""Decoder processes, started when they are needed, kept between calls, replaced when they die."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from io import BufferedReader, BufferedWriter
from typing import Any, cast

import numpy as np

from mvp.data.reading.decoding_wire import (
    Hangup,
    as_bytes,
    died,
    hear_ready,
    overworked,
    receive,
    receive_into,
    send,
    too_slow,
)
from mvp.data.reading.limits import Pixels
from mvp.errors import MvpError

# How exactly the time limit is kept, how long a process may take to start, and how long it may
# have nothing to do.
_TICK_SECONDS, _START_SECONDS, _IDLE_SECONDS = 0.1, 120.0, 60.0
# A tick that comes later than this was not slow: the process was stopped.
_STOPPED_SECONDS = 2.0
_ALARM, _BUSY = (int(getattr(signal, name, 0)) for name in ("SIGALRM", "SIGPROF"))
# The same modules are found as here, whatever the working directory holds.
_PROGRAM = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from mvp.data.reading.decoder import main; main()"
)
# A process for each thread: libraries need no threads of their own. One film's memory is kept for
# the next one: given back to the system and taken again, it costs as much as decoding (glibc).
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}


class Decoder:
    """One process. It is used by one thread at a time.

    Raises:
        MvpError: no process can be started.
    """

    def __init__(self) -> None:
        folders = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100 - "" is here
        try:
            # No multiprocessing: a user's script without a main guard must not be run again.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps(folders)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=1 << 16,
                env={**os.environ, **_ENVIRONMENT},
            )
        except OSError as error:
            raise _no_start(str(error.strerror)) from None
        self._requests = cast(BufferedWriter, self.process.stdin)
        self._answers = cast(BufferedReader, self.process.stdout)
        self.expired = False

    def wait_until_ready(self) -> None:
        """Return when it has loaded what it needs."""
        try:
            hear_ready(self._answers)
        except (Hangup, OSError):
            self.kill()
            raise _no_start(f"it ends with {self.process.returncode}") from None

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], Pixels | None]:
        """Its answer, and the pixels that come with it.

        Raises:
            Hangup, OSError: it is dead.
        """
        send(self._requests, request)
        answer = receive(self._answers)
        if "dtype" not in answer:
            return answer, None
        pixels = np.empty(answer["shape"], answer["dtype"])
        receive_into(self._answers, as_bytes(pixels))
        return answer, pixels

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self.expired and self.process.poll() is None

    def expire(self) -> None:
        """End it, from another thread, because its time is over."""
        self.expired = True
        self.process.kill()

    def kill(self) -> None:
        """End it and wait until it is gone."""
        self.process.kill()
        self._hang_up()
        self.process.wait()

    def close(self) -> None:
        """Let it end; it has nothing to do."""
        self._hang_up()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def abandon(self) -> None:
        """Forget it without ending it: it is another process's child."""
        # Below the buffers: their locks may be held by threads that this process does not have,
        # and what they hold is the other process's to send.
        for stream in (self._requests, self._answers):
            stream.raw.close()
        self.process.returncode = 0  # or Python would warn that it still runs

    def _hang_up(self) -> None:
        for stream in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                stream.close()


class Pool:
    """As many decoders as threads ask at a time; a thread of its own keeps the time limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Decoder] = []
        self._deadlines: dict[Decoder, float] = {}
        self._watcher: threading.Thread | None = None
        self._used = time.monotonic()

    def ask(
        self, request: dict[str, Any], file: str, seconds: float
    ) -> tuple[dict[str, Any], Pixels | None]:
        """The answer to a request about one file.

        Args:
            request: see `mvp.data.reading.decoder.answer_to`.
            file: for errors.
            seconds: after that the decoder is ended, and another will take the next file.

        Raises:
            ImageError: the file is slow, or no decoder survives it.
            MvpError: no decoder can be started.
        """
        for last in (False, True):
            decoder = self._take(seconds)
            try:
                answer = decoder.ask(request)
            except BaseException as error:
                # An interrupt too: half an answer would be taken for the next one.
                self._drop(decoder)
                decoder.kill()
                if not isinstance(error, Hangup | OSError):
                    raise
                ended_by = -decoder.process.returncode
                if decoder.expired or (last and ended_by == _ALARM):
                    raise too_slow(file, seconds) from None
                if ended_by == _ALARM:
                    continue  # its own clock comes after ours, unless all of us were stopped
                raise (overworked(file) if ended_by == _BUSY else died(file)) from None
            break
        self._give_back(decoder)
        return answer

    def close(self) -> None:
        """End all decoders."""
        with self._lock:
            idle, self._idle = self._idle, []
            busy = list(self._deadlines)
        for decoder in idle:
            decoder.close()
        for decoder in busy:
            decoder.expire()

    def abandon(self) -> None:
        """In a copy of this process: leave all decoders to the process whose children they are."""
        for decoder in (*self._idle, *self._deadlines):
            decoder.abandon()

    @property
    def processes(self) -> list[int]:
        """Ids of the processes that run."""
        with self._lock:
            return [d.process.pid for d in (*self._idle, *self._deadlines)]

    def _take(self, seconds: float) -> Decoder:
        with self._lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()
            while self._idle:
                decoder = self._idle.pop()
                if decoder.alive:
                    self._deadlines[decoder] = time.monotonic() + seconds
                    return decoder
                decoder.kill()
        decoder = Decoder()
        with self._lock:
            self._deadlines[decoder] = time.monotonic() + _START_SECONDS
        try:
            decoder.wait_until_ready()
        except BaseException:
            self._drop(decoder)
            decoder.kill()
            raise
        with self._lock:
            self._deadlines[decoder] = time.monotonic() + seconds
        return decoder

    def _drop(self, decoder: Decoder) -> None:
        with self._lock:
            del self._deadlines[decoder]

    def _give_back(self, decoder: Decoder) -> None:
        with self._lock:
            self._used = time.monotonic()
            del self._deadlines[decoder]
            # One whose time was over just as it answered is found dead when it is next taken.
            self._idle.append(decoder)

    def _watch(self) -> None:
        now = time.monotonic()
        while True:
            before = now
            time.sleep(_TICK_SECONDS)
            with self._lock:
                now = time.monotonic()
                # Stopped for so long, by Ctrl-Z or a scheduler, this process decoded nothing.
                stopped = now - before if now - before > _STOPPED_SECONDS else 0.0
                for decoder in self._deadlines:
                    self._deadlines[decoder] += stopped
                for decoder, deadline in self._deadlines.items():
                    if now > deadline:
                        decoder.expire()
                if self._deadlines or now - self._used < _IDLE_SECONDS:
                    continue
                idle, self._idle, self._watcher = self._idle, [], None
            for decoder in idle:
                decoder.close()
            return


def _no_start(cause: str) -> MvpError:
    return MvpError(
        "no decoder process can be started",
        cause=cause,
        remedy=f"see what this says: {sys.executable} -c 'import mvp.data.reading.decoder'",
    )


class _Process:
    """The pool of this process."""

    def __init__(self) -> None:
        self.pool = Pool()

    def close(self) -> None:
        self.pool.close()

    def renew(self) -> None:
        # After a fork: two processes that ask one decoder would read each other's answers.
        old, self.pool = self.pool, Pool()
        old.abandon()


_process = _Process()
atexit.register(_process.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.renew)


def pool() -> Pool:
    """The decoders of this process."""
    return _process.pool
