"""What the documents say is true."""

import re
import tomllib
import typing
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from mvp import cli, cli_store
from mvp.config import Config
from mvp.learners import check_learner

ROOT = Path(__file__).parents[1]
VERBS = [command.name or command.callback.__name__ for command in cli.app.registered_commands]


def sections(model):
    """Every section of mvp.toml with its settings."""
    found = {}
    for name, field in model.model_fields.items():
        inner = (field.annotation, *typing.get_args(field.annotation))
        for kind in inner:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = list(kind.model_fields)
    return found


def test_every_setting_is_documented_in_its_section():
    text = (ROOT / "docs" / "configuration.md").read_text()
    parts = dict(re.findall(r"^## \[?(\w+)[^\n]*\n(.*?)(?=^## |\Z)", text, re.S | re.M))
    for section, settings in sections(Config).items():
        for setting in settings:
            assert f"`{setting}`" in parts[section], f"[{section}] {setting}"
    for setting in ("protocol", "seed", "device", "workers"):
        assert f"`{setting}`" in parts["Top"]


def test_the_readme_names_every_verb_and_the_two_commands():
    text = (ROOT / "README.md").read_text()
    for verb in VERBS:
        assert f"mvp {verb}" in text
    assert "make demo" in text
    assert "make test" in text


def test_the_readme_leads_to_every_document_and_names_every_extra():
    text = (ROOT / "README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{path.name})" in text, path.name
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = re.search(r"# extras: (.*)", text).group(1).split(", ")
    assert set(said) == set(extras["optional-dependencies"]) - {"test", "dev"}


def commands(group, name=""):
    """Every command with its options."""
    for word, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{word} ")
        else:
            yield name + word, {o for p in command.params for o in (*p.opts, *p.secondary_opts)}


def test_the_commands_in_the_documents_can_be_given():
    options = dict(commands(typer.main.get_command(cli.app)))
    found = 0
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for verb, rest in re.findall(
            r"(?<![\w.])mvp ((?:cache )?[a-z-]+)((?: +[^\s`;&|#]+)*)", path.read_text()
        ):
            for option in re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest) if verb in options else ():
                assert option in options[verb], f"{path.name}: mvp {verb} {option}"
                found += 1
    assert found > 40


def test_every_command_on_the_store_is_documented_with_the_store():
    text = (ROOT / "docs" / "feature-store.md").read_text()
    for command in cli_store.cache.registered_commands:
        assert f"mvp cache {command.name or command.callback.__name__}" in text


def test_links_between_documents_lead_somewhere():
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
        for target in re.findall(
            r"`((?:docs|tests|benchmarks|examples)/[\w./-]+)`", path.read_text()
        ):
            assert (ROOT / target).exists(), f"{path.name}: {target}"


def test_the_learner_in_the_guide_keeps_the_contract():
    code = re.search(r"```python\n(class .*?)```", (ROOT / "docs/learners.md").read_text(), re.S)
    space = {}
    exec(code.group(1), space)
    check_learner(space["Prevalence"])


@pytest.mark.parametrize("name", ["LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", ".ci/run"])
def test_what_a_visitor_looks_for_is_there(name):
    assert (ROOT / name).stat().st_size > 0
