"""The commands that a user gives after a download: `mvp import`, then `mvp check`."""

import contextlib
import csv
import io
import json
import sys

import pytest

from mvp import cli


def command(*arguments):
    """(exit code, stdout, stderr) of one command."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        patch.setattr(sys, "argv", ["mvp", *map(str, arguments)])
        cli.main()
    return stop.value.code or 0, out.getvalue(), err.getvalue()


def import_and_check(kind, source, out, *arguments):
    """What both commands say as JSON; the import must have accounted for every row."""
    code, said, err = command("import", kind, source, "--out", out, "--json", *arguments)
    assert code == 0, err
    imported = json.loads(said)
    assert imported["rows"] == imported["images"] + sum(imported["left_out"].values())
    assert len(manifest(out)) == imported["images"]
    code, said, err = command("check", "--workspace", out, "--no-files", "--json", "--quiet")
    assert code == 0, said + err
    return imported, json.loads(said)


def manifest(out):
    """The rows of the manifest, read without the package."""
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def refused(kind, source, out, *arguments):
    """The one line of an import that fails."""
    code, said, err = command("import", kind, source, "--out", out, *arguments)
    assert code in (2, 3), said + err
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert not (out / "mvp.toml").exists()
    assert not (out / "manifest.csv").exists()
    return lines[0]
