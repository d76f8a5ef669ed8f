"""Processes that write one feature store, started and killed as a test says.

`Writers` starts this file as a helper process that has imported everything and runs one thread.
It forks a writer for each job, so that a writer costs milliseconds, and kills it when told.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve()
GOLDEN = {"machine": "test"}
# What a job ends with besides 0.
STORE_ERROR, BUG = 3, 70


def job(root, rows, **settings):
    """What one writer does: `rows` are (first, last + 1) or a list of numbers."""
    numbers = list(range(*rows)) if isinstance(rows, tuple) else list(rows)
    return {"root": str(root), "rows": numbers, **settings}


class Writers:
    """The helper process, for a `with`; it also imports `modules`."""

    def __init__(self, *modules):
        self.modules = modules

    def __enter__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), *self.modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=HERE.parents[2],
        )
        assert json.loads(self.process.stdout.readline()) == {"ready": 1}, "one thread"
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def start(self, *jobs):
        """Fork a writer for each job; their process ids. They wait for `go`."""
        return self._ask({"start": jobs})

    def go(self, kills=(), limit=120.0):
        """Let them run; `kills` has for each the seconds after which it is killed, or None.

        Gives for each: exit status (negative: the signal), seconds, the error's line.
        """
        self.send_go(kills, limit)
        return self.answer()

    def send_go(self, kills=(), limit=120.0):
        self._send({"go": list(kills), "limit": limit})

    @property
    def busy(self):
        """Whether those that were let run are still at it."""
        return not select.select([self.process.stdout], [], [], 0)[0]

    def answer(self):
        line = self.process.stdout.readline()
        assert line, "the helper process has ended"
        return json.loads(line)

    def run(self, *jobs, kills=(), limit=120.0):
        self.start(*jobs)
        return self.go(kills, limit)

    def _ask(self, message):
        self._send(message)
        return self.answer()

    def _send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()


def write(what):
    """Extract as the stage does; every committed unit is logged."""
    import numpy as np
    from cached import ids, numbers_of, opened

    from mvp.features import Writer, claims

    if "machine" in what:  # another one, whose processes cannot be asked whether they live
        claims.machine = lambda: what["machine"]
    log = open(what["log"], "a") if what.get("log") else None  # noqa: SIM115, PTH123
    settings = {k: what[k] for k in ("options", "lease_s") if k in what}
    store = opened(what["root"], **settings)
    rows, width = ids(what["rows"]), what.get("width", 3)
    rejected = set(ids(what.get("rejected", ())))
    store.discard_damaged(deep=False)
    # What failed before is tried by itself, and fails again.
    rows = [row for row in rows if row not in rejected or row not in store.rejected]
    with Writer(store) as writer:
        writer.require_place()
        store.agree_with_golden(GOLDEN, lambda: numbers_of(ids([-1]), width), 1e-4)
        tasks = writer.plan(rows, width, what.get("unit_rows", 3), GOLDEN)
        while tasks:
            for task in writer.claimed(tasks):
                values = numbers_of(task.rows, width)
                wrong = {i: "damaged" for i, row in enumerate(task.rows) if row in rejected}
                values[list(wrong)] = np.nan
                time.sleep(what.get("compute_s", 0))
                if log:
                    print("computed", task.segment.name, task.unit, file=log, flush=True)
                if writer.commit(task, values, wrong) and log:
                    print("committed", task.segment.name, task.unit, file=log, flush=True)
            tasks = writer.still_open(tasks)
            if tasks:
                writer.pause()


def _child(what, gate, errors):
    from mvp.errors import MvpError

    status = BUG
    os.setsid()
    try:
        os.read(gate, 1)  # ends when the helper lets go
        write(what)
        status = 0
    except MvpError as error:
        status = STORE_ERROR
        os.write(errors, f"{type(error).__name__}: {error}".encode())
    except BaseException:  # noqa: BLE001 - the test is told
        os.write(errors, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _start(jobs):
    gate, opening = os.pipe()
    children = []
    for what in jobs:
        told, telling = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(opening)
            _child(what, gate, telling)
        os.close(telling)
        children.append((pid, told))
    os.close(gate)
    return opening, children


def _go(opening, children, kills, limit):
    began = time.monotonic()
    os.close(opening)
    ends = {}
    due = [(s, pid) for s, (pid, _) in zip(kills, children, strict=False) if s is not None]
    due = sorted([*due, *[(limit, pid) for pid, _ in children]])
    while len(ends) < len(children):
        spent = time.monotonic() - began
        while due and due[0][0] <= spent:
            _, pid = due.pop(0)
            if pid not in ends:
                os.kill(pid, signal.SIGKILL)
        for pid, _ in children:
            if pid not in ends:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    ends[pid] = os.waitstatus_to_exitcode(status), time.monotonic() - began
        wait = due[0][0] - (time.monotonic() - began) if due else 0.005
        time.sleep(min(max(wait, 0), 0.002))
    results = []
    for pid, told in children:
        with os.fdopen(told, "rb") as stream:
            results.append((*ends[pid], stream.read().decode()))
    return results


def main():
    sys.path[:0] = [str(HERE.parents[2]), str(HERE.parent)]
    if sys.argv[1:2] == ["once"]:  # one writer, and no helper that would wait for its end
        write(json.loads(sys.argv[2]))
        return
    import cached
    import zarr.codecs
    import zarr.storage

    for name in sys.argv[1:]:
        importlib.import_module(name)

    import mvp.features.local
    import mvp.features.remote

    assert zarr and mvp
    cached.numbers_of(cached.ids([0]))  # numpy loads its generators when they are first used
    threads = len(list(Path("/proc/self/task").iterdir()))
    print(json.dumps({"ready": threads}), flush=True)
    started = None
    for line in sys.stdin:
        message = json.loads(line)
        if "start" in message:
            started = _start(message["start"])
            answer = [pid for pid, _ in started[1]]
        else:
            answer = _go(*started, message["go"], message["limit"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
