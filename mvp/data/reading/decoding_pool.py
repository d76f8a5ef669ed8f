"""Decoder processes, started when they are needed, kept between calls, replaced when they die."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from typing import Any

from mvp.data.reading.decoding_process import Decoder
from mvp.data.reading.decoding_wire import Hangup, died, given_up, overworked, too_slow
from mvp.data.reading.limits import Pixels

# How exactly the time limit is kept, how long a process may take to start, and how long it may
# have nothing to do.
_TICK_SECONDS, _START_SECONDS, _IDLE_SECONDS = 0.1, 120.0, 60.0
# A tick that comes later than this was not slow: the process was stopped.
_STOPPED_SECONDS = 2.0
_ALARM, _BUSY = (int(getattr(signal, name, 0)) for name in ("SIGALRM", "SIGPROF"))


class Errand:
    """What several requests are made for; `Pool.end` ends all of them."""

    def __init__(self) -> None:
        self.ended = False


class Pool:
    """As many decoders as threads ask at a time; a thread of its own keeps the time limit."""

    def __init__(self) -> None:
        # One thread may come here twice: an iterator that was dropped ends its errand wherever it
        # is collected.
        self._lock = threading.RLock()
        self._idle: list[Decoder] = []
        self._deadlines: dict[Decoder, float] = {}
        self._watcher: threading.Thread | None = None
        self._used = time.monotonic()

    def ask(
        self, request: dict[str, Any], file: str, seconds: float, errand: Errand | None = None
    ) -> tuple[dict[str, Any], Pixels | None]:
        """The answer to a request about one file.

        Args:
            request: see `mvp.data.reading.decoder.answer_to`.
            file: for errors.
            seconds: after that the decoder is ended, and another will take the next file.
            errand: what it is asked for.

        Raises:
            ImageError: the file is slow, no decoder survives it, or the errand has ended.
            MvpError: no decoder can be started.
        """
        for last in (False, True):
            if errand is not None and errand.ended:
                raise given_up(file)
            decoder = self._take(seconds, errand)
            try:
                answer = decoder.ask(request)
            except BaseException as error:
                # An interrupt too: half an answer would be taken for the next one.
                self._drop(decoder)
                decoder.kill()
                if not isinstance(error, Hangup | OSError):
                    raise
                ended_by = -decoder.process.returncode
                if errand is not None and errand.ended:
                    raise given_up(file) from None
                if decoder.expired or (last and ended_by == _ALARM):
                    raise too_slow(file, seconds) from None
                if ended_by == _ALARM:
                    continue  # its own clock comes after ours, unless all of us were stopped
                raise (overworked(file) if ended_by == _BUSY else died(file)) from None
            break
        self._give_back(decoder)
        return answer

    def end(self, errand: Errand) -> None:
        """Nobody waits any more for what is asked for this errand, now or later."""
        with self._lock:
            errand.ended = True
            for decoder in self._deadlines:
                if decoder.errand is errand:
                    decoder.expire()

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

    def _take(self, seconds: float, errand: Errand | None) -> Decoder:
        with self._lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True)
                self._watcher.start()
            while self._idle:
                decoder = self._idle.pop()
                if decoder.alive:
                    self._begin(decoder, seconds, errand)
                    return decoder
                decoder.kill()
        decoder = Decoder()
        with self._lock:
            self._begin(decoder, _START_SECONDS, errand)
        try:
            decoder.wait_until_ready()
        except BaseException:
            self._drop(decoder)
            decoder.kill()
            raise
        with self._lock:
            self._deadlines[decoder] = time.monotonic() + seconds
        return decoder

    def _begin(self, decoder: Decoder, seconds: float, errand: Errand | None) -> None:
        self._deadlines[decoder], decoder.errand = time.monotonic() + seconds, errand
        if errand is not None and errand.ended:
            decoder.expire()  # ended since it was asked

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
