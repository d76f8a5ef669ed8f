"""One decoder process, as seen by the process that asks it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from io import BufferedReader, BufferedWriter
from typing import Any, cast

import numpy as np

from mvp.data.reading.decoding_wire import (
    Hangup,
    as_bytes,
    hear_ready,
    receive,
    receive_into,
    send,
)
from mvp.data.reading.limits import Pixels
from mvp.errors import MvpError

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
# What Linux grants anybody unless it is told otherwise.
_PIPE_BYTES = 1 << 20


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
        _widen(self.process.stdout)
        self._requests = cast(BufferedWriter, self.process.stdin)
        self._answers = cast(BufferedReader, self.process.stdout)
        self.expired = False
        self.errand: object = None  # what it is busy for; the pool keeps that

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


def _widen(stream: Any) -> None:
    # A film goes through at once: in pieces of 64 KiB, it and the switches between the processes
    # cost three times as much. A system that has no room for it keeps its own size.
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _no_start(cause: str) -> MvpError:
    return MvpError(
        "no decoder process can be started",
        cause=cause,
        remedy=f"see what this says: {sys.executable} -c 'import mvp.data.reading.decoder'",
    )
