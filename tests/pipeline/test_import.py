"""`mvp import` as a verb: what is written, what is never overwritten, what its help says."""

import re
import sys

import pytest

import mvp
from mvp import cli
from mvp.config import load_config, parse_config
from mvp.data.importers import KINDS
from mvp.errors import ConfigError, DataError
from mvp.pipeline import toml_text

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,View Position"


def table(folder, name="entries.csv"):
    path = folder / name
    rows = [f"{p}.png,{['Mass', 'No Finding'][p % 2]},{p},=cmd{p},PA" for p in range(4)]
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_a_manifest_and_settings_that_are_read_back(tmp_path):
    out = tmp_path / "deep" / "work"
    outcome = mvp.import_dataset("nih-cxr14", table(tmp_path), out, root=tmp_path / "images")
    assert outcome.exit_code == 0
    config = load_config(out / "mvp.toml")
    assert (out / config.data.root).resolve() == (tmp_path / "images").resolve()
    assert (out / config.data.table) == out / "manifest.csv"
    content = (out / "manifest.csv").read_bytes()
    assert b"\r" not in content
    # It is data that mvp reads back, not a page for a spreadsheet: ids stay as they are.
    assert b"=cmd1/1,=cmd1,PA,1.png,No Finding\n" in content
    assert "4 images listed, 4 kept" in outcome.text
    assert f"wrote {out / 'mvp.toml'}" in outcome.text
    assert mvp.check(out, files=False, progress=False).patients == 4


def test_what_stands_is_overwritten_only_by_force(tmp_path):
    source, out = table(tmp_path), tmp_path / "work"
    mvp.import_dataset("nih-cxr14", source, out)
    for name in ("mvp.toml", "manifest.csv"):
        (out / name).write_text("mine")
        with pytest.raises(ConfigError, match=f"there is an? {name} already"):
            mvp.import_dataset("nih-cxr14", source, out)
        assert (out / name).read_text() == "mine"
        mvp.import_dataset("nih-cxr14", source, out, force=True)
        assert (out / name).read_text() != "mine"
        (out / ("mvp.toml" if name == "manifest.csv" else name)).unlink()


def test_the_source_is_never_overwritten_even_by_force(tmp_path):
    source = table(tmp_path, "manifest.csv")
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="would overwrite what it reads"):
        mvp.import_dataset("nih-cxr14", source, tmp_path, force=True)
    assert source.read_bytes() == before


def test_an_import_that_fails_writes_nothing(tmp_path):
    source = table(tmp_path)
    source.write_text(source.read_text().replace("Patient ID", "Subject"))
    with pytest.raises(DataError, match="no column 'Patient ID'"):
        mvp.import_dataset("nih-cxr14", source, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_an_option_that_the_kind_does_not_read_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="nih-cxr14 takes no --pattern"):
        mvp.import_dataset("nih-cxr14", table(tmp_path), tmp_path / "w", pattern="x")


def test_the_help_lists_every_kind(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mvp", "import", "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        cli.main()
    said = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for kind in KINDS:
        assert kind in said


@pytest.mark.parametrize(
    "item",
    ['a "quoted" \\ text\x7f\n', 1, 1.5, 1e-7, True, ["a", 2], {"odd key": {"x": [0.5]}}],
)
def test_a_toml_value_is_read_back_as_it_was(item):
    import tomllib

    assert tomllib.loads("\n".join(toml_text.table(["a.b", "c"], {"k d": item}))) == {
        "a.b": {"c": {"k d": item}}
    }


def test_what_toml_cannot_say_is_an_error():
    with pytest.raises(TypeError, match="NoneType"):
        toml_text.value(None)


def test_words_of_a_stranger_stay_within_their_comment(tmp_path):
    lines = toml_text.remark("a\n[data]\r\x00table = 1\u2028b")
    assert all(line.startswith("#") and line.isprintable() for line in lines)


def test_every_start_names_the_kind_of_image_that_it_changes(tmp_path):
    start = '[data]\ntable = "t"\n[views.x]\n[labels.y]\n'
    for wanted, preset in [({}, "cxr"), ({"augment": {"preset": "mri"}}, "mri")]:
        text = "\n".join(toml_text.common(wanted))
        assert f'preset = "{preset}"' in text
        assert parse_config(start + text, tmp_path).augment.preset == preset


def test_settings_of_a_kind_are_laid_over_the_common_ones(tmp_path):
    lines = toml_text.common({"transform": {"size": 320, "intensity": "percentile"}, "extract": {}})
    start = '[data]\ntable = "t"\n[views.x]\n[labels.y]\n'
    config = parse_config(start + "\n".join(lines), tmp_path)
    assert (config.transform.size, config.transform.intensity) == (320, "percentile")
    assert config.split.test == 0.25
