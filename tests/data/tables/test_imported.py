"""Features from elsewhere as they come: what is a number, what is an id, what is refused."""

import numpy as np
import pandas as pd
import pytest

from mvp.config import parse_config
from mvp.data.tables.imported import read_imported
from mvp.errors import ConfigError, DataError

TOML = """
[data]
table = "t.csv"
[views.frontal]
[labels.mass]
column = "Mass"
"""


@pytest.fixture
def config():
    return parse_config(TOML, "mvp.toml")


def csv(folder, text, name="t.csv"):
    path = folder / name
    path.write_text(text)
    return path


def refused(path, config, kind=DataError, **how):
    with pytest.raises(kind) as caught:
        read_imported(path, config, **how)
    line = str(caught.value)
    assert line.isprintable()
    assert "Remedy" in line
    return line


def test_csv_parquet_and_npz_give_the_same_numbers(tmp_path, config):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 3)).astype(np.float32)
    values[0, 0] = -0.0
    ids = ["0012", "12", "a b", "ä", "1e5"]
    frame = pd.DataFrame({"study": ids, **{f"f{i}": values[:, i] for i in range(3)}})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    frame.set_index("study").to_parquet(tmp_path / "i.parquet")
    np.savez(tmp_path / "t.npz", studies=np.array(ids), features=values)
    np.savez(tmp_path / "c.npz", study=np.array(ids), **{f"f{i}": values[:, i] for i in range(3)})
    first = read_imported(tmp_path / "t.csv", config)
    assert first.studies == ids
    assert first.columns == ("f0", "f1", "f2")
    assert not np.signbit(first.values[0, 0])
    for name in ("t.parquet", "i.parquet", "t.npz", "c.npz"):
        other = read_imported(tmp_path / name, config)
        assert (other.studies, other.columns) == (first.studies, first.columns)
        assert other.values.tobytes() == first.values.tobytes(), name


def test_booleans_are_0_and_1_and_nullable_columns_are_read(tmp_path, config):
    frame = pd.DataFrame({
        "study": ["a", "b", "c"],
        "x": [True, False, True],
        "y": pd.array([1, 2, None], dtype="Int64"),
        "z": pd.array([True, None, False], dtype="boolean"),
    })  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.parquet", "t.csv"):
        found = read_imported(tmp_path / name, config)
        assert found.studies == ["a"]
        assert found.values.tolist() == [[1, 1, 1]]
        assert [(s, why) for s, _, why in found.refused] == [
            ("b", "column 'z': blank"), ("c", "column 'y': blank"),
        ]  # fmt: skip


def test_whole_numbers_are_ids_in_any_kind_of_file(tmp_path, config):
    np.savez(tmp_path / "t.npz", study=np.array([7, 12]), x=np.array([1.0, 2.0]))
    pd.DataFrame({"study": [7, 12], "x": [1.0, 2.0]}).to_parquet(tmp_path / "t.parquet")
    for name in ("t.npz", "t.parquet"):
        assert read_imported(tmp_path / name, config).studies == ["7", "12"]


def test_what_is_no_finite_number_costs_its_study_and_says_which_column(tmp_path, config):
    path = csv(tmp_path, "study,x,y\na,1,2\nb,,2\nc,inf,n/a\n ,1,2\nd,1e39,2\ne,3,4\n")
    found = read_imported(path, config)
    assert found.studies == ["a", "e"]
    assert found.refused == [
        ("b", 3, "column 'x': blank"),
        ("c", 4, "column 'y': blank; column 'x': infinite"),
        ("", 5, "no study id"),
        ("d", 6, "column 'x': too large for float32"),
    ]


def test_columns_can_be_chosen_and_left_out(tmp_path, config):
    path = csv(tmp_path, "study,x,who,y\na,1,me,2\n")
    line = refused(path, config)
    assert "'who'" in line
    assert "--drop who" in line
    assert "--columns" in line
    assert "line 2" in line
    assert read_imported(path, config, drop=["who"]).columns == ("x", "y")
    assert read_imported(path, config, columns=["y", "x"]).columns == ("y", "x")
    assert "did you mean 'who'" in refused(path, config, ConfigError, drop=["wh"])
    assert "--columns" in refused(path, config, ConfigError, columns=["z"])


def test_the_id_is_the_settings_column_or_study_or_the_one_named(tmp_path, config):
    path = csv(tmp_path, "accession,x\n0012,1\n")
    assert "--study" in refused(path, config, ConfigError)
    assert read_imported(path, config, study=["accession"]).studies == ["0012"]
    own = parse_config(TOML.replace("[views", 'study = ["p", "day"]\n[views'), "mvp.toml")
    joined = csv(tmp_path, "p,day,x\n1,2,3\n", "j.csv")
    assert read_imported(joined, own).studies == ["1/2"]
    whole = csv(tmp_path, "study,x\n1/2,3\n", "w.csv")
    assert read_imported(whole, own).studies == ["1/2"]


@pytest.mark.parametrize(
    "column", ["Mass", "patient", "path", "view", "instance", "", "Unnamed: 0"]
)
def test_labels_and_ids_are_no_features(tmp_path, config, column):
    path = csv(tmp_path, f"{column},study,x\n1,a,2\n")
    line = refused(path, config, ConfigError)
    assert "tell the answer" in line
    assert "--drop" in line
    name = column or "unnamed 1"
    assert read_imported(path, config, drop=[name]).columns == ("x",)


def test_a_study_twice_names_both_lines(tmp_path, config):
    path = csv(tmp_path, 'study,x\na,1\n\n"b",2\na,1\n')
    line = refused(path, config)
    assert "lines 2 and 5" in line
    assert "study a" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study,x\na,1_0\n", "not numeric"),
        ("study,x\na,\nb,\n", "blank in every row"),
        ("study\na\n", "no column of features"),
        ("study,x,x\na,1,2\n", "stands twice"),
    ],
)
def test_other_tables_are_refused(tmp_path, config, text, said):
    assert said in refused(csv(tmp_path, text), config)


def test_npz_files_run_no_code_and_have_a_row_for_each_study(tmp_path, config):
    ids = np.array(["a", "b"])
    path = tmp_path / "t.npz"
    np.savez(path, study=ids, x=np.array([1, "y"], dtype=object))
    line = refused(path, config)
    assert "run code" in line
    assert "--drop x" in line
    np.savez(path, study=ids, x=np.array([1, "y"], dtype=object), y=np.ones(2))
    assert read_imported(path, config, drop=["x"]).columns == ("y",)
    np.savez(path, study=ids, x=np.ones(3))
    assert "(3,)" in refused(path, config)
    np.savez(path, x=np.ones(3))
    assert "studies" in refused(path, config, ConfigError)
    np.savez(path, study=ids.astype("S"), key=np.array("abc"), emb=np.ones((2, 2)), age=ids == "a")
    found = read_imported(path, config)
    assert found.studies == ["a", "b"]
    assert found.columns == ("emb0", "emb1", "age")
    np.savez(path, study=ids, f1=np.ones(2), features=np.ones((2, 2, 2)))
    assert "'f1'" in refused(path, config)
    assert read_imported(path, config, drop=["features"]).columns == ("f1",)
    np.savez(path, study=ids, features=np.ones((2, 2, 2)))
    assert read_imported(path, config).columns == ("f0", "f1", "f2", "f3")


def test_a_file_that_is_not_there_or_damaged_is_one_line(tmp_path, config):
    with pytest.raises(DataError, match="not there"):
        read_imported(tmp_path / "none.csv", config)
    (tmp_path / "t.npz").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_imported(tmp_path / "t.npz", config)
