"""Features from elsewhere: any table keyed by study is a view, with the guards of the others."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest

import mvp
from tests.pipeline.conftest import edit, files_below, rows_of, write_rows
from tests.pipeline.test_freshness import steps, write_extra

SIGNAL = "tube_depth"


def read(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def studies_of(ws):
    """Study to a label, of the workspace's table."""
    return {r["study"]: float(r[SIGNAL] in ("1", "true", "True")) for r in rows_of(ws)}


def radiomics(ws, studies=None, seed=0, name="radiomics.csv", **more):
    """A table of two columns, one of which knows the label."""
    rng = np.random.default_rng(seed)
    truth = studies_of(ws)
    studies = list(truth) if studies is None else studies
    rows = [
        {
            "study": s,
            "volume": round(float(rng.normal()), 6),
            "shape": truth.get(s, 0.0) + round(float(0.3 * rng.normal()), 6),
        }
        for s in studies
    ]
    for row in rows:
        row.update(more.get(row["study"], {}))
    path = ws / name
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def listed(ws, view="radiomics"):
    return json.loads((ws / "imported" / f"{view}.json").read_text())


@pytest.fixture
def imported(workspace, command):
    """A workspace with an imported view."""
    code, out, err = command(
        "import-features", "--view", "radiomics", radiomics(workspace), "-w", workspace
    )
    assert code == 0, err
    assert "120 of 120 studies of the workspace" in out
    return workspace


def test_csv_parquet_and_npz_are_one_view_and_no_study_id_enters_the_cache(workspace, command):
    table = radiomics(workspace)
    frame = pd.read_csv(table, dtype={"study": str})
    frame.to_parquet(workspace / "r.parquet")
    np.savez(
        workspace / "r.npz",
        studies=frame["study"].to_numpy(dtype=str),
        volume=frame["volume"].to_numpy(),
        shape=frame["shape"].to_numpy(),
    )
    before = (workspace / "mvp.toml").read_bytes()
    told = []
    for name in ("radiomics.csv", "r.parquet", "r.npz"):
        code, out, _ = command(
            "import-features", "--view", "radiomics", workspace / name, "-w", workspace,
            "--json", "--quiet",
        )  # fmt: skip
        assert code == 0
        told.append(json.loads(out))
    assert len({t["key"] for t in told}) == 1
    assert [t["new"] for t in told] == [120, 0, 0]
    assert [t["unchanged"] for t in told] == [0, 120, 120]
    assert [t["added_view"] for t in told] == [True, False, False]
    text = (workspace / "mvp.toml").read_bytes()
    assert text.startswith(before)
    assert text.endswith(b"[views.radiomics]\nimported = true\n")
    assert listed(workspace)["source"] == "r.npz"
    study = str(frame["study"][0]).encode()
    for name, data in files_below(workspace / "cache" / "radiomics").items():
        assert study not in name.encode()
        assert study not in data


def test_ids_are_text_and_keep_their_zeros(workspace, command):
    rows = rows_of(workspace)
    first = rows[0]["study"]
    for row in rows:
        row["study"] = "0012" if row["study"] == first else row["study"]
    write_rows(workspace, rows)
    path = radiomics(workspace, ["0012", "12"])
    code, out, _ = command("import-features", "--view", "r", path, "-w", workspace, "--json", "-q")
    assert code == 0
    told = json.loads(out)
    assert (told["known"], told["elsewhere"]) == (1, 1)
    assert list(listed(workspace, "r")["rows"]) == ["0012", "12"]


def test_rejected_studies_are_listed_and_end_with_4(workspace, command):
    first, second = list(studies_of(workspace))[:2]
    path = radiomics(workspace, **{first: {"volume": ""}, second: {"shape": "inf"}})
    code, out, _ = command("import-features", "--view", "radiomics", path, "-w", workspace)
    assert code == 4
    assert "118 new" in out
    table = next(workspace.glob("runs/*-import-features/rejected.csv"))
    assert str(table) in out
    assert [(r["study"], r["view"], r["path"], r["line"], r["reason"]) for r in read(table)] == [
        (first, "radiomics", "", "2", "column 'volume': blank"),
        (second, "radiomics", "", "3", "column 'shape': infinite"),
    ]
    assert not {first, second} & set(listed(workspace)["rows"])


def test_a_table_of_rejects_alone_is_refused_and_still_listed(workspace, refused):
    path = workspace / "r.csv"
    path.write_text("study,x,y\na,1,\nb,,2\n")
    code, line = refused("import-features", "--view", "r", path, "-w", workspace)
    assert code == 3
    assert "rejected.csv" in line
    assert not (workspace / "imported").exists()
    assert "views.r" not in (workspace / "mvp.toml").read_text()


def test_what_cannot_be_imported_changes_nothing(workspace, refused):
    (workspace / "names.csv").write_text("study,x,who\na,1,me\n")
    (workspace / "twice.csv").write_text("study,x\na,1\na,2\n")
    (workspace / "label.csv").write_text(f"study,x,{SIGNAL}\na,1,1\n")
    (workspace / "fine.csv").write_text("study,x\na,1\n")
    before = files_below(workspace)
    for code, name, table, said in (
        (3, "r", "names.csv", "--drop who"),
        (3, "r", "twice.csv", "lines 2 and 3"),
        (2, "r", "label.csv", "the label tube_depth"),
        (3, "r", "none.csv", "not there"),
        (2, "frontal", "fine.csv", "has images"),
        (2, "Frontal", "fine.csv", "upper and lower case"),
        (2, "a b", "fine.csv", "cannot be the name of a view"),
        (2, "../x", "fine.csv", "cannot be the name of a view"),
        (2, "fusion", "fine.csv", "cannot be added"),
    ):
        found, line = refused("import-features", "--view", name, workspace / table, "-w", workspace)
        assert found == code, line
        assert said in line
    after = {k: v for k, v in files_below(workspace).items() if not k.startswith("runs/")}
    assert after == {k: v for k, v in before.items() if not k.startswith("runs/")}


def test_a_toml_that_a_table_cannot_be_appended_to_is_left_alone(workspace, refused):
    text = (workspace / "mvp.toml").read_text()
    for name in ("frontal", "lateral"):
        alias = {"frontal": "PA", "lateral": "LL"}[name]
        text = text.replace(f'[views.{name}]\naliases = ["{alias}"]\n', "")
    text = 'views = {frontal = {aliases = ["PA"]}, lateral = {aliases = ["LL"]}}\n' + text
    (workspace / "mvp.toml").write_text(text)
    code, line = refused("import-features", "--view", "r", radiomics(workspace), "-w", workspace)
    assert code == 2
    assert "yourself" in line
    assert (workspace / "mvp.toml").read_text() == text


def test_a_file_without_a_last_line_break_and_a_linked_one_are_appended_to(workspace):
    path = workspace / "mvp.toml"
    elsewhere = workspace.parent / "settings.toml"
    text = path.read_bytes().rstrip().replace(b"\n", b"\r\n")
    elsewhere.write_bytes(b"\xef\xbb\xbf" + text)
    path.unlink()
    path.symlink_to(elsewhere)
    mvp.import_features(radiomics(workspace), workspace, view="r")
    assert path.is_symlink()
    assert elsewhere.read_bytes().startswith(b"\xef\xbb\xbf" + text)
    assert not mvp.import_features(radiomics(workspace), workspace, view="r").added_view


def test_importing_again_adds_and_replaces_by_study(imported, command):
    former = listed(imported)["rows"]
    first, second = list(former)[:2]
    path = radiomics(imported, [first, second, "new"], **{first: {"volume": 99}})
    frame = pd.read_csv(path, dtype={"study": str})
    frame.loc[1, ["volume", "shape"]] = pd.read_csv(
        radiomics(imported, name="again.csv"), dtype={"study": str}
    ).loc[1, ["volume", "shape"]]
    frame[["shape", "study", "volume"]].to_csv(path, index=False)
    code, out, _ = command("import-features", "--view", "radiomics", path, "-w", imported)
    assert code == 0
    assert "1 new, 1 changed, 1 unchanged" in out
    assert "118 kept" in out
    assert "1 imported ones are not in its table" in out
    now = listed(imported)
    assert now["columns"] == ["volume", "shape"]
    assert {s for s in former if now["rows"][s] != former[s]} == {first}


def test_a_rejected_study_keeps_its_former_numbers_and_the_table_says_so(imported, command):
    first = next(iter(listed(imported)["rows"]))
    path = radiomics(imported, **{first: {"volume": ""}})
    code, _, _ = command("import-features", "--view", "radiomics", path, "-w", imported)
    assert code == 4
    tables = sorted(imported.glob("runs/*-import-features/rejected.csv"))
    assert read(tables[-1])[0]["reason"].endswith("its former numbers stay")
    assert first in listed(imported)["rows"]


def test_other_columns_or_another_maker_need_to_be_asked_for(imported, refused, command):
    path = imported / "other.csv"
    path.write_text("study,volume,texture\na,1,2\n")
    code, line = refused("import-features", "--view", "radiomics", path, "-w", imported)
    assert code == 2
    assert "lacking 'shape'" in line
    assert "not there before 'texture'" in line
    assert "--replace" in line
    again = radiomics(imported)
    code, line = refused(
        "import-features", "--view", "radiomics", again, "-w", imported, "--made-by", "v2"
    )
    assert code == 2
    assert "'v2'" in line
    before = listed(imported)["key"]
    code, _, _ = command(
        "import-features", "--view", "radiomics", path, "-w", imported, "--replace"
    )
    assert code == 0
    assert list(listed(imported)["rows"]) == ["a"]
    assert listed(imported)["key"] != before


def test_a_head_refuses_another_makers_numbers(imported, refused):
    mvp.fit_head(imported, views=["radiomics"], progress=False)
    mvp.import_features(radiomics(imported), imported, view="radiomics", made_by="v2", replace=True)
    table = imported / "data" / "studies.csv"
    for more in ([], ["--cached-only"]):
        code, line = refused("score", table, "-w", imported, *more)
        assert code == 2
        assert "the imported columns, or what they were made by" in line
    code, line = refused("evaluate", "-w", imported)
    assert code == 2


def test_numbers_that_float16_does_not_hold_are_one_line_and_store_nothing(workspace, refused):
    edit(workspace, "unit_rows = 16", 'unit_rows = 16\ndtype = "float16"')
    first = next(iter(studies_of(workspace)))
    path = radiomics(workspace, **{first: {"volume": 70000}})
    code, line = refused("import-features", "--view", "r", path, "-w", workspace)
    assert code == 3
    assert "'volume'" in line
    assert "float32" in line
    assert not list(workspace.glob("cache/r/*/segments/*"))
    assert "views.r" not in (workspace / "mvp.toml").read_text()


@pytest.mark.slow
def test_an_imported_view_with_the_labels_signal_lifts_the_fusion(imported):
    # Two epochs on tiny films know little of the label; the imported column knows it.
    films = ["frontal", "lateral"]
    mvp.fit_head(imported, "xgboost", views=films, name="films", progress=False)
    mvp.fit_head(imported, "xgboost", name="all", progress=False)

    def area(head, model):
        rows = mvp.evaluate(imported, head, progress=False).to_json()["rows"]
        return next(r["auroc"] for r in rows if r["model"] == model and r["label"] == SIGNAL)

    assert area("all", "radiomics") > 0.9
    assert area("all", "fusion") > area("films", "fusion") + 0.1


def test_the_other_verbs_pass_over_it_with_a_line(imported, command):
    code, out, _ = command("finetune", "-w", imported, "-q", "--view", "radiomics")
    assert code == 0
    assert "radiomics: imported: it has no network" in out
    code, out, _ = command("extract", "-w", imported, "-q")
    assert code == 0
    assert "radiomics: imported, 120 rows" in out
    code, out, _ = command("extract", "-w", imported, "-q", "--verify", "--view", "radiomics")
    assert code == 0
    code, out, _ = command("check", "-w", imported, "--json", "-q")
    assert code == 0
    told = json.loads(out)
    assert told["views"]["radiomics"]["studies"] == 120
    both = {r["study"] for r in rows_of(imported) if r["view"] == "PA"}
    both &= {r["study"] for r in rows_of(imported) if r["view"] == "LL"}
    assert told["studies_with_all_views"] == len(both)
    assert "files" not in told["views"]["radiomics"]
    code, out, _ = command("check", "-w", imported, "-q")
    assert "radiomics" in out


def test_run_walks_past_it_and_changed_numbers_make_head_and_evaluation_stale(imported):
    first = steps(mvp.run(imported, progress=False))
    assert first["finetune radiomics"] == (False, "imported: it has no network")
    assert first["extract radiomics"] == (False, "imported, 120 rows")
    assert not any(runs for runs, _ in steps(mvp.run(imported, progress=False)).values())
    with (imported / "split.csv").open() as stream:
        parts = {r["study"]: r["part"] for r in csv.DictReader(stream)}
    study = next(s for s, part in parts.items() if part == "stage2")
    mvp.import_features(radiomics(imported, [study], seed=7), imported, view="radiomics")
    planned = steps(mvp.run(imported, dry_run=True, progress=False))
    assert planned["fit-head logistic"] == (True, "changed since it was fitted: the rows")
    assert not planned["finetune frontal"][0]
    mvp.run(imported, progress=False)
    study = next(s for s, part in parts.items() if part == "test")
    mvp.import_features(radiomics(imported, [study], seed=8), imported, view="radiomics")
    planned = steps(mvp.run(imported, dry_run=True, progress=False))
    assert not planned["fit-head logistic"][0]
    assert planned["evaluate"] == (True, "changed since the last one: the rows")


def test_an_import_moves_no_study_that_was_dealt(workspace):
    from mvp.pipeline.project import Project

    dealt = Project(workspace, progress=False).deal().digest
    some = list(studies_of(workspace))[::2]
    mvp.import_features(radiomics(workspace, some), workspace, view="radiomics")
    assert Project(workspace, progress=False).deal().digest == dealt


def test_imported_views_are_spread_over_the_parts_when_these_are_dealt(workspace):
    (workspace / "split.csv").unlink()
    some = list(studies_of(workspace))[::2]
    mvp.import_features(radiomics(workspace, some), workspace, view="radiomics")
    done = mvp.split(workspace, dry_run=True, progress=False)
    for part in done.parts.values():
        own = sum(n for name, n in part["patterns"].items() if "radiomics" in name)
        assert abs(own / part["studies"] - 0.5) < 0.15


def test_new_studies_are_scored_with_the_numbers_imported_for_them(imported):
    mvp.fit_head(imported, progress=False)
    extra = write_extra(imported)
    mine = sorted({r["study"] for r in extra})
    known = read(imported / "data" / "studies.csv")[:6]
    done = mvp.import_features(radiomics(imported, mine[:1]), imported, view="radiomics")
    assert (done.new, done.elsewhere) == (1, 1)
    alone = {**known[0], "study": "no image", "patient": "no image", "view": "", "path": ""}
    numbers = {**alone, "study": "numbers", "patient": "numbers"}
    mvp.import_features(radiomics(imported, ["numbers"]), imported, view="radiomics")
    table = imported / "new.csv"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(known[0]))
        writer.writeheader()
        writer.writerows([*known, *extra, alone, numbers])
    first = mvp.score(table, imported, progress=False)
    assert first.exit_code == 4
    rows = {r["study"]: r for r in read(imported / "scores" / "new.csv")}
    assert rows[mine[0]]["has_radiomics"] == "True"
    assert rows[mine[1]]["has_radiomics"] == "False"
    assert rows[known[0]["study"]]["has_radiomics"] == "True"
    assert rows["numbers"]["has_radiomics"] == "True"
    assert rows["numbers"]["has_frontal"] == "False"
    assert "no image" not in rows
    (rejected,) = [
        r for r in read(imported / "scores" / "new.rejected.csv") if r["study"] == "no image"
    ]
    assert "no imported features (radiomics)" in rejected["reason"]
    again = mvp.score(table, imported, imported / "b.csv", cached_only=True, progress=False)
    assert again.scored == first.scored
    assert (imported / "b.csv").read_text() == (imported / "scores" / "new.csv").read_text()


def test_a_head_of_imported_views_alone_scores_without_opening_an_image(imported, monkeypatch):
    def opened(*_, **__):
        raise AssertionError("an image was opened")

    mvp.fit_head(imported, views=["radiomics"], progress=False)
    for source in (imported / "data").glob("*.png"):
        source.unlink()
    shutil.rmtree(imported / "cache" / "frontal")
    monkeypatch.setattr("mvp.networks.restore", opened)
    done = mvp.score(imported / "data" / "studies.csv", imported, cached_only=True, progress=False)
    assert (done.scored, done.exit_code) == (120, 0)


def test_a_view_that_nothing_was_imported_for_says_so_before_any_work(workspace, refused, command):
    with (workspace / "mvp.toml").open("a") as stream:
        stream.write("\n[views.radiomics]\nimported = true\n")
    for verb in ("run", "fit-head"):
        code, line = refused(verb, "-w", workspace)
        assert code == 2
        assert "mvp import-features --view radiomics TABLE" in line
    code, out, _ = command("check", "-w", workspace, "-q")
    assert code == 0
    assert "nothing imported yet" in out
    code, out, _ = command("extract", "-w", workspace, "-q")
    assert code == 0
    assert "radiomics: imported, 0 rows" in out


def test_lost_and_damaged_rows_are_never_a_missing_view(imported, refused, command):
    mvp.fit_head(imported, progress=False)
    table = imported / "data" / "studies.csv"
    chunk = next(imported.glob("cache/radiomics/*/segments/*/features/c.0.0"))
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(data)
    code, line = refused("fit-head", "-w", imported)
    assert code == 5
    assert "mvp extract --verify" in line
    code, out, _ = command("extract", "--verify", "-q", "-w", imported, "--view", "radiomics")
    assert code == 5
    assert "run `mvp import-features --view radiomics TABLE` again" in out
    for arguments in (["fit-head"], ["score", table], ["score", table, "--cached-only"]):
        code, line = refused(*arguments, "-w", imported)
        assert code == 2
        assert "mvp import-features" in line
    code, out, _ = command(
        "import-features", "--view", "radiomics", imported / "radiomics.csv", "-w", imported, "-q"
    )
    assert code == 0
    assert "120 unchanged" in out
    assert mvp.fit_head(imported, progress=False).rows
    # What is cut short is seen without --verify, and mended by the import alone.
    chunk.write_bytes(b"short")
    mvp.import_features(imported / "radiomics.csv", imported, view="radiomics")
    assert mvp.fit_head(imported, progress=False).rows
    shutil.rmtree(imported / "cache" / "radiomics")
    code, line = refused("score", table, "-w", imported)
    assert code == 2
    assert "mvp import-features" in line


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda text: text[:-40], 3),
        (lambda text: text.replace('"volume"', '"shape2"'), 2),
        (lambda text: text.replace('"rows": {', '"rows": [], "x": {'), 3),
    ],
)
def test_a_damaged_list_of_studies_is_one_line_and_replaced(imported, refused, change, code):
    path = imported / "imported" / "radiomics.json"
    path.write_text(change(path.read_text()))
    table = radiomics(imported)
    for arguments in (["fit-head"], ["import-features", "--view", "radiomics", table]):
        found, line = refused(*arguments, "-w", imported)
        assert found == code
        assert "--replace" in line
    mvp.import_features(table, imported, view="radiomics", replace=True)
    assert mvp.fit_head(imported, progress=False).rows


def test_features_that_mvp_exported_come_in_as_another_models(workspace, command):
    out = workspace / "lateral.npz"
    code, _, err = command("cache", "export", "--view", "lateral", "--out", out, "-w", workspace)
    assert code == 0, err
    done = mvp.import_features(out, workspace, view="embeddings", made_by="small")
    present = {r["study"] for r in rows_of(workspace) if r["view"] == "LL"}
    assert done.new == done.known == len(present)
    fitted = mvp.fit_head(workspace, views=["embeddings"], name="again", progress=False)
    own = mvp.fit_head(workspace, views=["lateral"], name="own", progress=False)
    assert fitted.rows == own.rows
    mvp.score(workspace / "data" / "studies.csv", workspace, workspace / "a.csv", head="again",
              progress=False)  # fmt: skip
    mvp.score(workspace / "data" / "studies.csv", workspace, workspace / "b.csv", head="own",
              progress=False)  # fmt: skip
    a, b = (pd.read_csv(workspace / f"{n}.csv", dtype={"study": str}) for n in "ab")
    np.testing.assert_allclose(a[SIGNAL], b[SIGNAL], atol=1e-6)


@pytest.mark.parametrize(
    "setting",
    ['source = "frontal"', 'images = "first"', 'labels = ["tube_side"]', "aliases = []",
     'network = {name = "resnet18"}', "transform = {size = 32}"],
)  # fmt: skip
def test_settings_of_images_mean_nothing_for_an_imported_view(imported, refused, setting):
    edit(imported, "imported = true", f"imported = true\n{setting}")
    code, line = refused("check", "-w", imported)
    assert code == 2
    assert "views.radiomics" in line
    assert setting.split(" ")[0] in line


def test_rows_of_the_table_that_name_an_imported_view_are_counted_not_taken(imported, command):
    rows = rows_of(imported)
    rows[0]["view"] = "radiomics"
    write_rows(imported, rows)
    _, out, _ = command("check", "-w", imported, "-q")
    assert "'radiomics', an alias of no configured view" in out
