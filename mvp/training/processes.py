"""Several processes that train one network together, as `torchrun` starts them."""

from __future__ import annotations

import atexit
import itertools
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from mvp.errors import INTERRUPTED_EXIT_CODE, ConfigError, MvpError

log = logging.getLogger("mvp")

# Waiting for process 0 while it reads all files or fetches weights; torchrun ends those that wait
# when it dies.
PATIENCE = timedelta(days=7)
# Waiting for one another within a step.
STEP_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True, eq=False)
class Processes:
    """One process among those that train together; by default it is alone.

    Attributes:
        rank: its number, from 0; the first one writes files and prints.
        number: of all.
        local: its number on this machine, which is its GPU's.
        store: where process 0 leaves word for the others; None where there are none.
    """

    rank: int = 0
    number: int = 1
    local: int = 0
    store: dist.Store | None = None
    _told: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def first(self) -> bool:
        """Whether this one writes files and prints."""
        return self.rank == 0

    def told(self, value: Any) -> Any:
        """What process 0 gives, in all of them; a plain JSON value, so numbers are exact."""
        if self.store is None:
            return value
        key = f"told-{next(self._told)}"
        if self.first:
            self.store.set(key, json.dumps(value))
            return value
        self.store.wait([key], PATIENCE)
        return json.loads(self.store.get(key))

    def meet(self) -> None:
        """Wait until all processes have come here."""
        if self.store is None:
            return
        place = f"met-{next(self._told)}"
        if self.store.add(place, 1) == self.number:
            self.store.set(f"{place}-all", "")
        self.store.wait([f"{place}-all"], PATIENCE)

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Process 0 goes through the block alone, the others after it."""
        if not self.first:
            self.told(None)
        yield
        if self.first:
            self.told(None)

    def add_up(self, values: Tensor) -> None:
        """Add the values of all processes, in place and in all of them.

        Raises:
            MvpError: another process is gone.
        """
        if self.number == 1:
            return
        try:
            dist.all_reduce(values)
        except RuntimeError as error:
            raise MvpError(
                f"process {self.rank} of {self.number} lost the others",
                cause=f"one of them ended ({type(error).__name__})",
                remedy="mend what ended it, and run the same command again: it goes on",
            ) from error

    def rows(self, own: Tensor, start: int, total: int) -> Tensor:
        """(total, ...) the rows of all processes, of which `own` begin at `start`."""
        if self.number == 1:
            return own
        everything = own.new_zeros((total, *own.shape[1:]))
        everything[start : start + len(own)] = own
        self.add_up(everything)
        return everything

    def device(self, wanted: torch.device) -> torch.device:
        """The device of this process: a GPU of its own, or the CPU."""
        if self.number == 1 or wanted.type != "cuda":
            return wanted
        if wanted.index is not None:
            raise ConfigError(
                f'device = "{wanted}" is one GPU for {self.number} processes',
                remedy='set device = "cuda"; each process then takes its own',
            )
        if self.local >= torch.cuda.device_count():
            raise ConfigError(
                f"there is no GPU for process {self.local} of this machine",
                cause=f"it has {torch.cuda.device_count()}",
                remedy="start as many processes as there are GPUs (torchrun --nproc-per-node)",
            )
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)


_joined: list[Processes] = []


def _join() -> Processes:
    number = int(os.environ.get("WORLD_SIZE", "1"))
    if number == 1 or "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        return Processes()
    if not _joined:
        store, rank, number = next(dist.rendezvous("env://"))
        both = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(
            both, store=store, rank=rank, world_size=number, timeout=STEP_PATIENCE
        )
        atexit.register(dist.destroy_process_group)
        local = int(os.environ.get("LOCAL_RANK", "0"))
        _joined.append(Processes(rank, number, local, dist.PrefixStore("mvp", store)))
    return _joined[0]


@contextmanager
def together() -> Iterator[Processes]:
    """Join the other processes that `torchrun` started, if there are any.

    Within, only process 0 logs. The first process that fails raises its error, and so prints one
    line; those that fail after it, mostly because it is gone, leave without a word.
    """
    processes = _join()
    before = log.disabled
    log.disabled = before or not processes.first
    try:
        yield processes
    except BaseException as error:
        if processes.store is not None:
            # A process that waits for its peers before it ends would wait for ever.
            atexit.unregister(dist.destroy_process_group)
            _fail(processes.store, error)
        raise
    finally:
        log.disabled = before


def _fail(store: dist.Store, error: BaseException) -> None:
    try:
        first = store.add("failed", 1) == 1
    except RuntimeError:
        return
    if not first:
        _leave(error)


def _leave(error: BaseException) -> NoReturn:
    code = error.exit_code if isinstance(error, MvpError) else MvpError.exit_code
    if isinstance(error, KeyboardInterrupt):
        code = INTERRUPTED_EXIT_CODE
    raise SystemExit(code) from None
