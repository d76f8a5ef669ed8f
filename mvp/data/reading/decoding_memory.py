"""What a decoder may take for one file, memory and time: what its header announces, no more."""

from __future__ import annotations

import signal
from pathlib import Path

# Libraries that are loaded with the first file of a kind, their tables, stacks and buffers.
FLOOR_BYTES = 512 << 20
# A colour film in JPEG 2000 is held as three 32-bit numbers a pixel, twice, and converted in
# 32-bit floats; nothing that is read takes more.
BYTES_PER_PIXEL = 64
# An encoded file is read, mapped, or put together from its fragments.
BYTES_PER_BYTE = 4
# Of processor time: what loading a library takes, and many times what the slowest decoder does for
# a pixel. A small file that is at work for longer goes round in circles.
FLOOR_SECONDS, SECONDS_PER_ITEM, USUAL_SECONDS = 3.0, 5e-6, 30.0

_STATM = Path("/proc/self/statm")


class Allowance:
    """The address space of this process, bounded for one file at a time.

    A bound of the whole system's kind (RLIMIT_AS), so that it holds inside C libraries: what they
    cannot have is a MemoryError, or the end of this process. Where the system does not say how
    much a process has (it does on Linux), nothing is bounded.
    """

    def __init__(self) -> None:
        self._base: int | None = None
        self._pixels = self._file_bytes = 0
        self._seconds = 0.0

    def begin(self, file_bytes: int, seconds: float = USUAL_SECONDS) -> None:
        """Bound what comes now to what a file of so many bytes may take before its header is read.

        Args:
            file_bytes: size of the file.
            seconds: the time limit of a file; one that is raised raises processor time with it.
        """
        self._pixels, self._file_bytes, self._seconds = 0, file_bytes, seconds
        self._bound_time()
        try:
            import resource

            pages = int(_STATM.read_text().split()[0])
        except (ImportError, OSError, ValueError):
            return
        self._base = pages * resource.getpagesize()
        self._bound()

    def announce(self, pixels: int) -> None:
        """Allow what so many pixels, of all instances together, need; nothing before `begin`."""
        if not self._seconds:
            return
        self._pixels = max(self._pixels, pixels)
        self._bound_time()
        if self._base is not None:
            self._bound()

    def end(self) -> None:
        """No bound any more."""
        self._seconds = 0.0
        self._bound_time()
        if self._base is not None:
            import resource

            self._base = None
            hard = resource.getrlimit(resource.RLIMIT_AS)[1]
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

    def _bound_time(self) -> None:
        # The system ends the process when it is over (SIGPROF), inside C libraries too.
        if hasattr(signal, "ITIMER_PROF"):
            share = FLOOR_SECONDS + SECONDS_PER_ITEM * (self._file_bytes + self._pixels)
            share *= max(1.0, self._seconds / USUAL_SECONDS) if self._seconds else 0.0
            signal.setitimer(signal.ITIMER_PROF, share)

    def _bound(self) -> None:
        import resource

        assert self._base is not None
        wanted = self._base + FLOOR_BYTES
        wanted += self._file_bytes * BYTES_PER_BYTE + self._pixels * BYTES_PER_PIXEL
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# Of this process: readers announce to it, and only a decoder process ever begins it.
allowance = Allowance()
