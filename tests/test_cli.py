"""The command line: quick to answer, documented, results on stdout and the rest on stderr."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer

from mvp import cli
from mvp.cli_common import show

VERBS = [command.name or command.callback.__name__ for command in cli.app.registered_commands]
# Not pydantic: typer takes it along itself when it is installed.
HEAVY = ["torch", "torchvision", "sklearn", "xgboost", "pandas", "zarr", "numpy"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(verb, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mvp", verb, "--help"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr().out
    assert not stop.value.code
    assert f"Example: mvp {verb}" in said
    assert verb in ("init", "demo", "import", "networks") or "--workspace" in said


def loaded_by(*arguments):
    """Heavy libraries that a command loads."""
    code = (
        f"import sys; sys.argv = ['mvp', *{arguments!r}]\n"
        "from mvp import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        f"import json; print('\\n' + json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    assert loaded_by(*arguments) == []


def test_looking_at_a_table_loads_no_network_library(tmp_path):
    (tmp_path / "t.csv").write_text("study,patient,view,path,mass\nS1,P1,pa,a.png,1\n")
    settings = '[data]\ntable = "t.csv"\n[views.pa]\n[labels.mass]\n'
    (tmp_path / "mvp.toml").write_text(settings)
    found = loaded_by("check", "--no-files", "--workspace", str(tmp_path))
    assert set(found) == {"pandas", "numpy"}


def test_the_names_in_python_are_those_of_the_command_line():
    import mvp

    # `mvp.import` cannot be written in Python, and `mvp.networks` is a package.
    others = {"import": "import-dataset", "networks": "list-networks"}
    verbs = [others.get(v, v) for v in VERBS]
    assert {v.replace("-", "_") for v in verbs} == set(mvp.__all__)
    for name in mvp.__all__:
        assert callable(getattr(mvp, name))


def test_usage_errors_end_with_2(monkeypatch, capsys):
    for arguments in (["extrct"], ["extract", "--vieww", "x"], ["demo", "--studies", "3"]):
        monkeypatch.setattr(sys, "argv", ["mvp", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_an_interrupt_ends_with_130(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("mvp.pipeline._check.run_check", interrupted)
    monkeypatch.setattr(sys, "argv", ["mvp", "check"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(28, "No space left on device", "cache/x"), "No space left on device (cache/x)"),
        (ValueError("ZZCANARY"), "a bug, ValueError"),
    ],
)
def test_no_traceback_reaches_a_user(monkeypatch, capsys, raised, said):
    def broken(*_, **__):
        raise raised

    monkeypatch.delenv("MVP_DEBUG", raising=False)
    monkeypatch.setattr("mvp.pipeline._check.run_check", broken)
    monkeypatch.setattr(sys, "argv", ["mvp", "check"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    err = capsys.readouterr().err
    assert stop.value.code == 1
    assert said in err
    assert "Traceback" not in err
    assert "ZZCANARY" not in err


@pytest.mark.parametrize(("rank", "code"), [("0", 4), ("1", 0)])
def test_of_several_processes_the_first_one_speaks_and_ends_for_all(
    rank, code, monkeypatch, capsys
):
    """torchrun would end the first one in the middle of a word if another ended with 4 before."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(typer.Exit) as stop:
        show(SimpleNamespace(text="1 image rejected", exit_code=4))
    assert stop.value.exit_code == code
    assert capsys.readouterr().out == ("1 image rejected\n" if rank == "0" else "")
