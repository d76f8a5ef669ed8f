"""The command line in processes of their own that begin within milliseconds of each other.

A helper process has imported everything, runs one thread, and is forked for each command; what
happens in the command, its death included, is as in a process that was started anew.
"""

import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

# What a command would import one by one, for seconds.
MODULES = ["torch", "torchvision", "mvp.cli", "mvp.pipeline._extract", "mvp.pipeline.new_files"]


def run(arguments, folder):
    """One command, in the forked process."""
    from mvp import cli

    # A process that was started anew finds no network of another workspace.
    sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "mvp.toml").exists()]
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "forked with threads"
    for number, name in ((1, "out"), (2, "err")):
        with (Path(folder) / name).open("wb") as stream:
            os.dup2(stream.fileno(), number)
    sys.argv = ["mvp", *arguments]
    cli.main()


class Forked:
    """As `subprocess.Popen`, as far as the tests ask."""

    def __init__(self, *arguments):
        self.folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(MODULES)
        words = list(map(str, arguments))
        self.process = context.Process(target=run, args=(words, self.folder.name), daemon=True)
        self.process.start()
        self.pid = self.process.pid

    def poll(self):
        return self.process.exitcode

    @property
    def returncode(self):
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def communicate(self, timeout=None):
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it does not end"
        texts = [(Path(self.folder.name) / name).read_text() for name in ("out", "err")]
        self.folder.cleanup()
        return texts
