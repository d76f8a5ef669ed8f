"""Rows go to the view whose alias and side fit; no view and no side is guessed."""

import pytest

from mvp.config import parse_config
from mvp.data.tables.manifest import load_manifest
from mvp.errors import ConfigError, DataError

SIDED = """
[views.left_cc]
aliases = "CC"
side = "left"
[views.right_cc]
aliases = "CC"
side = "right"
[views.mlo]
"""


def load(folder, *lines, views=SIDED, data='laterality = "side"', header=None, **options):
    header = header or "study,patient,view,side,path,date,mass"
    (folder / "t.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    text = f'[data]\ntable = "t.csv"\n{data}\n{views}\n[labels.mass]\n'
    return load_manifest(parse_config(text, folder / "mvp.toml"), folder, **options)


@pytest.mark.parametrize(
    ("side", "view"),
    [("L", "left"), ("left", "left"), (" LEFT ", "left"), ("r", "right"), ("Right", "right")],
)
def test_a_side_chooses_between_views_of_one_alias(tmp_path, side, view):
    m = load(tmp_path, f"S1,P1,cc,{side},a.png,,1", "S1,P1,MLO,L,b.png,,1")
    assert m.images["view"].tolist() == [f"{view}_cc", "mlo"]
    assert not m.problems


@pytest.mark.parametrize("side", ["", "B", "bilateral", "links", "nan", "LR", "left_cc"])
def test_what_is_no_side_goes_to_no_view_of_one_side(tmp_path, side):
    m = load(tmp_path, f"S1,P1,CC,{side},a.png,,1", f"S1,P1,mlo,{side},b.png,,1")
    assert m.images["view"].tolist() == ["mlo"]
    (problem,) = m.problems
    assert (problem.kind, problem.count) == ("unknown-view", 1)
    assert "'CC' with the side" in problem.text
    assert (f"'{side}'" if side not in ("", "nan") else "(blank)") in problem.text
    assert "line 2" in problem.text


def test_the_name_of_a_view_needs_its_side_too(tmp_path):
    m = load(tmp_path, "S1,P1,left_cc,L,a.png,,1", "S1,P1,left_cc,R,b.png,,1")
    assert m.images["view"].tolist() == ["left_cc"]
    assert [p.kind for p in m.problems] == ["unknown-view"]


def test_a_view_that_nobody_configured_is_counted_whatever_its_side(tmp_path):
    lines = [f"S{i},P{i},XC,{side},{i}.png,,1" for i, side in enumerate(["L", "R", ""])]
    m = load(tmp_path, *lines, "S1,P1,MLO,,a.png,,1", "S1,P1,,L,b.png,,1")
    texts = {p.count: p.text for p in m.problems}
    assert set(texts) == {3, 1}
    assert "'XC', an alias of no configured view (first: line 2)" in texts[3]
    assert "(blank), an alias" in texts[1]


def test_without_sided_views_sides_do_not_matter(tmp_path):
    views = '[views.cc]\n[views.mlo]\nimages = "all"\n'
    m = load(tmp_path, "S1,P1,CC,L,a.png,,1", "S1,P1,CC,X,b.png,,1", views=views, data="")
    assert len(m.images) == 2


@pytest.mark.parametrize("data", ['laterality = "side"', 'order = "date"'])
def test_a_column_of_sides_or_dates_that_no_view_asks_for_is_refused(tmp_path, data):
    views = '[views.cc]\n[views.mlo]\nimages = "all"\n'
    with pytest.raises(ConfigError, match=f"data.{data.split()[0]} has no meaning without a view"):
        load(tmp_path, "S1,P1,CC,L,a.png,,1", views=views, data=data)


def test_a_missing_column_of_sides_or_dates_names_its_setting(tmp_path):
    for scoring in (False, True):
        with pytest.raises(ConfigError, match=r"data\.laterality"):
            load(tmp_path, "S1,P1,CC,L,a.png,,1", data='laterality = "no"', scoring=scoring)
        with pytest.raises(ConfigError, match=r"data\.order"):
            newest(tmp_path, "1", "2", data='order = "no"', scoring=scoring)


def newest(folder, *cells, data='order = "date"', scoring=False):
    """The one image that is left of several of one view, each with a cell of the order column."""
    lines = [f"S1,P1,CC,,{i}.png,{cell},1" for i, cell in enumerate(cells)]
    views = '[views.cc]\nimages = "newest"\n[views.mlo]\n'
    m = load(folder, *lines, "S1,P1,mlo,,z.png,no date,1", views=views, data=data, scoring=scoring)
    (path,) = m.images_of("cc", "newest")["path"]
    return int(path[0])


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["9", "10", "2"], 1),
        (["-1", "-2", "-1.5"], 0),
        (["1.25", "1.5", "1.1"], 1),
        (["99999999999999999999", "100000000000000000000", "1"], 1),
        (["2019-05-30", "2020-01-01", "1999-12-31"], 1),
        (["20190530", "20200101", "19991231"], 1),
        (["2019-05-30", "20200101"], 1),
        (["2019-05-30T10:00:00", "2019-05-30 09:59"], 0),
        (["2019-05-30T10:00:00+02:00", "2019-05-30T09:00:00Z"], 1),
        (["2019-05-30", "2019-05-30T00:00:01"], 1),
        (["", "-5", "nan"], 1),
        (["", "", ""], 2),
        (["5", "5.0", "4"], 1),
        (["2019-05-30", "2019-05-30", ""], 1),
    ],
)
def test_the_newest_by_number_or_date_and_of_equal_ones_the_later_row(tmp_path, cells, wanted):
    assert newest(tmp_path, *cells) == wanted


@pytest.mark.parametrize(
    ("cells", "line", "value"),
    [
        (["1", "2", "soon"], 4, "soon"),
        (["2019-05-30", "yesterday"], 3, "yesterday"),
        (["2019-05-30", "2019-02-30"], 3, "2019-02-30"),
        (["30.05.2019", "31.05.2019"], 2, "30.05.2019"),
        (["05/30/2019"], 2, "05/30/2019"),
        (["1", "2019-05-30"], 3, "2019-05-30"),
        (["2019-05-30", "1"], 3, "1"),
        (["2019-05-30", "2019-05-30 25:00"], 3, "2019-05-30 25:00"),
        (["1", "inf"], 3, "inf"),
        (["1", "\u202e2"], 3, "\\u202e2"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_line_and_value(tmp_path, cells, line, value):
    with pytest.raises(DataError) as caught:
        newest(tmp_path, *cells)
    text = str(caught.value)
    assert f"line {line} says '{value}'" in text
    assert "data.order" in text
    assert text.isprintable()


def test_a_repeated_row_has_the_newest_of_its_dates(tmp_path):
    lines = ["S1,P1,CC,,a.png,1,1", "S1,P1,CC,,b.png,2,1", "S1,P1,CC,,a.png,3,1"]
    views = '[views.cc]\nimages = "newest"\n'
    m = load(tmp_path, *lines, views=views, data='order = "date"')
    assert m.images_of("cc", "newest")["path"].tolist() == ["a.png"]


def test_a_view_that_looks_at_another_ones_images_may_take_the_newest(tmp_path):
    views = '[views.cc]\n[views.last]\nsource = "cc"\nimages = "newest"\n'
    lines = ["S1,P1,CC,,a.png,2,1", "S1,P1,CC,,b.png,1,1"]
    m = load(tmp_path, *lines, views=views, data='order = "date"')
    assert m.images_of("cc", "newest")["path"].tolist() == ["a.png"]
    assert m.images_of("cc", "first")["path"].tolist() == ["a.png"]
    assert m.images_of("cc", "all")["path"].tolist() == ["a.png", "b.png"]


def test_the_newest_needs_an_order():
    text = '[data]\ntable = "t.csv"\n[views.cc]\nimages = "newest"\n[labels.mass]\n'
    with pytest.raises(ConfigError, match=r"data\.order"):
        parse_config(text, "mvp.toml")
