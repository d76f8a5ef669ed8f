"""Views that are columns: a cell per study, blank where rows contradict each other."""

import numpy as np
import pytest

from mvp.config import parse_config
from mvp.data.tables.manifest import load_manifest
from mvp.errors import ConfigError

CLINIC = '[views.clinic]\nkind = "table"\nnumbers = ["age", "bp"]\ncategories = "sex"\n'
REPORT = '[views.report]\nkind = "text"\ncolumn = "text"\n'
IMAGES = '[views.frontal]\naliases = "PA"\n'
HEADER = "study,patient,view,path,mass,age,bp,sex,text"


def load(folder, *lines, views=IMAGES + CLINIC + REPORT, header=HEADER, scoring=False):
    (folder / "t.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    text = f'[data]\ntable = "t.csv"\n{views}\n[labels.mass]\n'
    config = parse_config(text, folder / "mvp.toml")
    return load_manifest(config, folder, scoring=scoring)


def kinds(manifest):
    return {(p.kind, p.count) for p in manifest.problems}


def test_cells_are_gathered_over_the_rows_of_a_study(tmp_path):
    m = load(
        tmp_path,
        'S1,P1,PA,a.png,1, 63 ,,F,"two\nlines"',
        "S2,P2,PA,b.png,0,nan,120,,",
        "S1,P1,PA,c.png,1,63.0,007,F,",
        "S3,P3,PA,d.png,0,,,,NA",
    )
    assert m.cells["clinic"].tolist() == [["63", "007", "F"], ["", "120", ""], ["", "", ""]]
    assert m.cells["report"].tolist() == [["two\nlines"], [""], [""]]
    assert m.filled("clinic").tolist() == [True, True, False]
    assert m.filled("report").tolist() == [True, False, False]
    assert not m.problems
    chosen = m.select(np.array([1, 0]))
    assert chosen.cells["clinic"].tolist() == [["", "120", ""], ["63", "007", "F"]]


def test_rows_that_contradict_each_other_make_a_blank_and_a_warning(tmp_path):
    m = load(
        tmp_path,
        "S1,P1,PA,a.png,1,63,,f,x",
        "S1,P1,PA,b.png,1,64,,F,x",
        "S2,P2,PA,c.png,1,,,,",
        "S1,P1,PA,d.png,1,63,,F,x",
    )
    assert m.cells["clinic"].tolist() == [["", "", ""], ["", "", ""]]
    assert m.cells["report"].tolist() == [["x"], [""]]
    assert kinds(m) == {("cell-conflict", 1)}
    texts = [p.text for p in m.problems]
    assert any("views.clinic.numbers" in t and "line 3" in t for t in texts)
    assert any("views.clinic.categories" in t and "'sex'" in t for t in texts)


@pytest.mark.parametrize("scoring", [False, True])
@pytest.mark.parametrize(
    ("missing", "setting"),
    [
        ("bp", "views.clinic.numbers"),
        ("sex", "views.clinic.categories"),
        ("text", "views.report.column"),
    ],
)
def test_a_missing_column_names_its_setting(tmp_path, scoring, missing, setting):
    header = HEADER.replace(missing, "other")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "S1,P1,PA,a.png,1,1,1,F,x", header=header, scoring=scoring)
    assert setting in str(caught.value)


def test_without_views_of_files_neither_views_nor_paths_are_needed(tmp_path):
    header = "study,patient,mass,age,bp,sex,text"
    m = load(tmp_path, "S1,P1,1,63,,F,x", "S2,P2,0,,,,", views=CLINIC + REPORT, header=header)
    assert m.filled("clinic").tolist() == [True, False]
    assert len(m.images) == 0
    assert m.presence([]).shape == (2, 0)
    assert len(m.select(np.array([1])).images) == 0
    assert not m.problems


def test_a_row_of_cells_alone_is_no_missing_image(tmp_path):
    m = load(
        tmp_path,
        "S1,P1,PA,a.png,1,,,,",
        "S1,P1,,,,63,,F,x",
        "S2,P2,PA,,0,64,,M,",
        "S3,P3,,,0,,,,",
    )
    assert m.cells["clinic"][:, 0].tolist() == ["63", "64", ""]
    assert m.images["line"].tolist() == [2]
    assert kinds(m) == {("blank-path", 1), ("unknown-view", 1)}


def test_scoring_keeps_the_cells(tmp_path):
    m = load(tmp_path, "S1,P1,PA,a.png,,63,,F,x", scoring=True)
    assert m.cells["clinic"].tolist() == [["63", "", "F"]]
