"""Whatever a table holds: no row is lost in silence, and their order decides nothing."""

import csv
import random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvp.config import parse_config
from mvp.data.tables.manifest import load_manifest
from mvp.errors import DataError

TOML = """
[data]
table = "t.csv"
laterality = "side"
order = "date"
[views.left]
aliases = "CC"
side = "left"
images = "newest"
[views.other]
aliases = ["MLO", ""]
[views.clinic]
kind = "table"
numbers = "age"
[labels.mass]
other = "unknown"
"""
HEADER = ["study", "patient", "view", "side", "path", "date", "mass", "age"]
# Patients hang on their studies, or most tables would be refused.
STUDIES = ["0", "00", "0012", "12", "1e1", "10", "1\u202e", "é"]
ROW = st.tuples(
    st.sampled_from(STUDIES),
    st.sampled_from(["CC", "cc", "MLO", "", "XX"]),
    st.sampled_from(["L", "", "r"]),
    st.sampled_from(["a.png", "b.png", "./a.png", "", "nan", "../x.png", "c,\n.png"]),
    st.sampled_from(["", "1", "2", "10"]),
    st.sampled_from(["", "0", "1", "-1", "x"]),
    st.sampled_from(["", "63", "63.0", "7"]),
)
ROWS = st.lists(ROW, min_size=1, max_size=12)
MANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def load(folder, rows):
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        writer.writerows([study, f"P{study}", *rest] for study, *rest in rows)
    try:
        return load_manifest(parse_config(TOML, folder / "mvp.toml"), folder)
    except DataError as error:
        assert all("\u202e" in study for study, *_ in rows), str(error)
        return None


def known(manifest):
    """What is known of each study, whatever the order of the rows."""
    facts = {}
    for i, study in enumerate(manifest.studies):
        images = manifest.images[manifest.images["study"] == i]
        files = sorted(zip(images["view"], images["file"], images["error"], strict=True))
        label = str(manifest.labels.values[i].tolist())
        facts[study] = (manifest.patients[i], files, label, manifest.cells["clinic"][i].tolist())
    return facts


@MANY
@given(rows=ROWS)
def test_every_row_is_an_image_or_is_counted(tmp_path, rows):
    m = load(tmp_path, rows)
    if m is None:
        return
    left_out = {"bad-id", "unknown-view", "blank-path", "repeated-row"}
    counted = sum(p.count for p in m.problems if p.kind in left_out)
    alone = sum(
        "\u202e" not in study and not view and path in ("", "nan") and bool(age)
        for study, view, _, path, _, _, age in rows
    )
    assert len(rows) == m.rows == len(m.images) + counted + alone
    refused = sum(p.count for p in m.problems if p.kind in {"path-refused", "two-views"})
    assert refused >= (m.images["error"] != "").sum()


@MANY
@given(rows=ROWS, seed=st.integers(0, 99))
def test_the_order_of_the_rows_decides_nothing(tmp_path, rows, seed):
    other = rows.copy()
    random.Random(seed).shuffle(other)
    a, b = (load(tmp_path, some) for some in (rows, other))
    if a is None:
        return
    assert known(a) == known(b)
    assert sorted((p.kind, p.count) for p in a.problems) == sorted(
        (p.kind, p.count) for p in b.problems
    )


@MANY
@given(rows=ROWS)
def test_no_id_loses_a_zero_and_no_two_become_one(tmp_path, rows):
    m = load(tmp_path, rows)
    if m is not None:
        wanted = dict.fromkeys(study for study, *_ in rows if "\u202e" not in study)
        assert m.studies.tolist() == list(wanted)
        assert m.patients.tolist() == [f"P{study}" for study in wanted]


@MANY
@given(rows=ROWS, seed=st.integers(0, 99))
def test_a_selection_is_the_table_of_these_studies(tmp_path, rows, seed):
    m = load(tmp_path, rows)
    if m is None:
        return
    some = np.random.default_rng(seed).permutation(len(m))[: len(m) // 2 + 1]
    chosen = m.select(some)
    everything = known(m)
    assert known(chosen) == {study: everything[study] for study in m.studies[some]}
    np.testing.assert_array_equal(chosen.presence(["left"]), m.presence(["left"])[some])
