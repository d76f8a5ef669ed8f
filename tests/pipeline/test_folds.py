"""Cross-fitting, stage one: K networks a view, each without one fold of the patients."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mvp
from mvp import pipeline
from mvp.config import SplitConfig
from mvp.data.splits.file import read_split, write_split
from mvp.data.splits.split import TRAIN, Split, make_split
from mvp.errors import ConfigError, DataError, StaleError
from mvp.pipeline.folds import fold_names, fold_networks, held_out, needed_for
from mvp.pipeline.networks import feature_network, open_stores, view_key
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import patient_hashes, read_provenance
from mvp.pipeline.stage_two import head_rows
from mvp.pipeline.tables import cached_table, require_unseen
from mvp.pipeline.training_rows import training_masks, training_rows
from mvp.pipeline.workspace import FOLD, Workspace, fold_name, fold_number
from mvp.types import Labels, Target
from tests.pipeline.conftest import FILMS_TOML, edit, write_films, write_studies

K = 3
TOML = FILMS_TOML.replace('"frozen"', '"holdout"') + "\n[training]\nepochs = 1\n"
STUDIES = 48


def opened(ws):
    return Project(ws, progress=False)


def seen(ws, fold, view="frontal"):
    """Keyed hashes of the patients that a network says it saw."""
    return set(read_provenance(Workspace(ws).stage1(view, fold))["patients"])


def hashes(project, mask):
    return set(patient_hashes(project.workspace, project.manifest.patients[mask]))


def in_test(project):
    return project.split.mask(project.manifest.studies, ["test"])


def two_studies_a_patient(ws):
    with (ws / "studies.csv").open() as stream:
        rows = list(csv.reader(stream))[1:]
    write_studies(
        ws, [[s, f"p{i // 2}", v, f, i // 2 % 2] for i, (s, _, v, f, _) in enumerate(rows)]
    )


@pytest.fixture(scope="session")
def folded(tmp_path_factory):
    """Films of which some patients have two studies, with a network for each of three folds."""
    ws = tmp_path_factory.mktemp("folds") / "ws"
    write_films(ws, STUDIES, TOML)
    two_studies_a_patient(ws)
    mvp.finetune(ws, folds=K, progress=False)
    return ws


@pytest.fixture
def ws(folded, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(folded, tmp_path / "ws"))


@pytest.fixture
def films(tmp_path):
    """The same films with nothing dealt or trained."""
    write_films(tmp_path / "films", 24, TOML)
    return tmp_path / "films"


# ---- rows


@st.composite
def worlds(draw):
    """Studies of patients with labels, and the settings of a split with folds."""
    patients = draw(st.lists(st.integers(0, 25), min_size=8, max_size=60))
    labels = draw(
        st.lists(
            st.sampled_from([0.0, 1.0, np.nan]), min_size=len(patients), max_size=len(patients)
        )
    )
    shares = {
        "test": draw(st.floats(0.05, 0.45)),
        "stage2": draw(st.floats(0.05, 0.45)),
        "inner": draw(st.floats(0.05, 0.9)),
    }
    config = SplitConfig(seed=draw(st.integers(0, 99)), folds=draw(st.integers(2, 5)), **shares)
    studies = np.array([f"s{i}" for i in range(len(patients))])
    values = np.array(labels, np.float32)[:, None]
    return studies, np.array([f"p{p}" for p in patients]), values, config


@settings(max_examples=80, deadline=None)
@given(worlds())
def test_no_network_learns_from_its_fold_or_from_test(world):
    studies, patients, values, config = world
    presence = np.ones((len(studies), 1), bool)
    try:
        split = make_split(studies, patients, Labels((Target("x"),), values), presence, config)
    except DataError as error:
        assert "folds need as many patients" in str(error)
        return
    test = split.mask(studies, ["test"])
    inner_parts = split.mask(studies, ["stage1-inner", "stage2-inner"])
    times = np.zeros(len(studies), int)
    for number in range(config.folds):
        fold = fold_name(number)
        fitted, inner = training_masks(split, studies, "holdout", fold)
        held = held_out(split, studies, fold)
        mine = set(patients[fitted | inner])
        assert not mine & set(patients[held])
        assert not mine & set(patients[test])
        assert not (fitted & inner).any()
        assert (inner <= inner_parts).all()
        # Nobody who may be learnt from is left out.
        assert ((fitted | inner) == ~(held | test)).all()
        assert (needed_for(split, studies, fold) == (held | test)).all()
        times += held
    assert (times == np.where(test, 0, 1)).all()


def test_who_stands_in_no_fold_trains_no_fold_network():
    studies = np.array(["a", "b", "c"])
    split = Split({"a": "stage1", "b": "stage1-inner", "c": "stage2"}, {"a": 0, "b": 1})
    for fold in ("fold-0", "fold-1"):
        fitted, inner = training_masks(split, studies, "holdout", fold)
        assert not (fitted | inner)[2]


def test_rows_without_folds_are_those_of_the_protocol(folded):
    project = opened(folded)
    rows = training_rows(project, project.view("frontal"))
    parts = [project.split.parts[study] for study in rows.studies]
    assert set(parts) == {"stage1", "stage1-inner"}


@pytest.mark.parametrize("name", ["fold-01", "fold--1", "fold-x", "fold", "", "../all", "fold-1\n"])
def test_a_name_that_is_no_fold_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="is no fold"):
        fold_number(name)
    with pytest.raises(ConfigError, match="is no fold"):
        Workspace(tmp_path).stage1("frontal", name)


# ---- networks


def test_every_network_says_that_it_never_saw_its_fold_or_test(folded):
    project = opened(folded)
    names = fold_names(project)
    assert names == ["fold-0", "fold-1", "fold-2"]
    split, studies = project.split, project.manifest.studies
    everybody = hashes(project, ~in_test(project))
    for name in names:
        held = hashes(project, held_out(split, studies, name))
        assert held
        assert not seen(folded, name) & held
        assert not seen(folded, name) & hashes(project, in_test(project))
        assert seen(folded, name) | held == everybody


def test_the_folds_are_kept_in_the_split(folded):
    split = read_split(folded / "split.csv")
    assert set(split.folds.values()) == set(range(K))
    assert {s for s, part in split.parts.items() if part in TRAIN} == set(split.folds)


def test_seeds_and_keys_differ_by_fold(ws):
    mvp.finetune(ws, progress=False)
    project = opened(ws)
    names = [FOLD, *fold_names(project)]
    made = [read_provenance(project.workspace.stage1("frontal", name)) for name in names]
    assert made[0]["seed"] == project.config.seed
    assert len({m["seed"] for m in made}) == len(names)
    keys = [view_key(project, "frontal", name).digest for name in names]
    assert len(set(keys)) == len(names)
    assert [key.digest for key in (n.key for _, n, _ in fold_networks(project, "frontal"))] == keys[
        1:
    ]


def test_a_network_of_no_fold_is_as_it_was_before_there_were_folds(films, tmp_path):
    other = Path(shutil.copytree(films, tmp_path / "other"))
    mvp.finetune(films, folds=2, fold=0, progress=False)
    mvp.finetune(films, progress=False)
    mvp.finetune(other, progress=False)
    weights = [Workspace(w).weights("frontal").read_bytes() for w in (films, other)]
    assert weights[0] == weights[1]


def test_finished_folds_are_skipped_and_an_interrupted_set_goes_on(films, monkeypatch):
    from mvp.pipeline import _finetune

    train, calls = _finetune.finetune, []

    def interrupted(*args, **named):
        calls.append(named["folder"].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args, **named)

    monkeypatch.setattr(_finetune, "finetune", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mvp.finetune(films, folds=3, progress=False)
    first = Workspace(films).weights("frontal", "fold-0").read_bytes()
    again = mvp.finetune(films, folds=3, progress=False)
    assert calls == ["fold-0", "fold-1", "fold-1", "fold-2"]
    assert "fresh" in again.reasons["frontal fold-0"]
    assert Workspace(films).weights("frontal", "fold-0").read_bytes() == first
    assert all(again.views[f"frontal fold-{k}"] is not None for k in (1, 2))
    third = mvp.finetune(films, folds=3, progress=False)
    assert not any(third.views.values())
    # The number stands now, and need not be said again.
    assert list(mvp.finetune(films, fold=1, force=True, progress=False).views) == ["frontal fold-1"]
    assert calls[4:] == ["fold-1"]


def test_one_fold_of_one_view(films):
    toml = TOML.replace("[labels.finding]", '[views.again]\nsource = "frontal"\n\n[labels.finding]')
    (films / "mvp.toml").write_text(toml)
    done = mvp.finetune(films, ["again"], folds=4, fold=2, progress=False)
    assert list(done.views) == ["again fold-2"]
    assert done.views["again fold-2"].epochs_run == 1
    assert Workspace(films).trained_folds("again") == ["fold-2"]
    assert Workspace(films).trained_folds("frontal") == []
    assert "again fold-2: 1 epochs" in done.text


def test_the_folds_of_the_settings_are_taken(films):
    edit(films, "[head]", "[split]\nfolds = 4\n\n[head]")
    with pytest.raises(ConfigError, match=r"--folds 3 is asked for, and split\.folds is 4"):
        mvp.finetune(films, folds=3, progress=False)
    assert not (films / "split.csv").exists()
    done = mvp.finetune(films, fold=0, progress=False)
    assert list(done.views) == ["frontal fold-0"]
    assert len(fold_names(opened(films))) == 4


def test_another_number_of_folds_than_stands_is_refused_and_the_remedy_works(ws):
    with pytest.raises(ConfigError, match=r"4 folds are asked for, and split\.csv holds 3") as e:
        mvp.finetune(ws, folds=4, progress=False)
    assert "split.folds = 4" in str(e.value)
    assert "mvp split --new-folds" in str(e.value)
    edit(ws, "[head]", "[split]\nfolds = 4\n\n[head]")
    said = mvp.split(ws, new_folds=True, progress=False)
    assert said.stale == [f"network frontal fold-{k}" for k in range(K)]
    done = mvp.finetune(ws, folds=4, fold=0, progress=False)
    assert "the training images" in done.reasons["frontal fold-0"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folds", "1"], "leaves nothing to train on"),
        (["--folds", "-2"], "leaves nothing to train on"),
        (["--folds", "3", "--fold", "3"], "there is no fold 3"),
        (["--folds", "3", "--fold", "-1"], "there is no fold -1"),
        (["--fold", "0"], "say how many: `mvp finetune --folds 5`"),
        (["--folds", "400"], "400 folds need as many patients"),
    ],
)
def test_folds_that_cannot_be(films, refused, arguments, said):
    code, line = refused("finetune", "-w", films, *arguments)
    assert code in (2, 3)
    assert said in line
    assert not (films / "stage1").exists()


def test_a_workspace_that_trains_nothing_has_no_folds_to_train(films, refused):
    edit(films, '"holdout"', '"frozen"')
    code, line = refused("finetune", "-w", films, "--folds", "3")
    assert code == 2
    assert "trains no network" in line


def test_heads_of_the_protocol_wait_for_the_features_of_the_folds(ws, refused):
    code, line = refused("fit-head", "-w", ws, "--protocol", "crossfit")
    assert code == 2
    assert "fold-0" in line
    assert "mvp extract --view frontal --folds" in line


def give_folds(ws, fold_of, part_of=None):
    """Write the split by hand: study number to fold, and to part."""
    project = opened(ws)
    parts, folds = dict(project.split.parts), {}
    for i, study in enumerate(map(str, project.manifest.studies)):
        if part_of is not None:
            parts[study] = part_of(i)
        if parts[study] != "test":
            folds[study] = fold_of(i)
    write_split(ws / "split.csv", Split(parts, folds))


def test_a_fold_without_which_one_class_is_left_is_named(films, refused):
    # Every second patient is positive; all of those stand in fold 1.
    give_folds(films, lambda i: i % 2)
    code, line = refused("finetune", "-w", films, "--fold", "1")
    assert code == 3
    assert "frontal, fold-1" in line
    assert "two classes" in line


def test_a_fold_without_which_no_inner_row_is_left_is_named(films, refused):
    parts = ["stage1", "stage1", "stage2", "stage2", "stage1-inner", "test"]
    give_folds(films, lambda i: int(i % 6 == 4), lambda i: parts[i % 6])
    code, line = refused("finetune", "-w", films, "--fold", "1")
    assert code == 3
    assert "frontal, fold-1" in line
    assert "inner" in line


def test_a_fold_without_which_nothing_is_left_is_named(films, refused):
    parts = ["stage1", "stage1-inner"]
    give_folds(films, lambda i: i % 2, lambda i: parts[i % 2])
    code, line = refused("finetune", "-w", films, "--fold", "0")
    assert code == 3
    assert "no images to train on without fold-0" in line


def test_a_fold_whose_studies_are_gone_is_named(ws):
    split = read_split(ws / "split.csv")
    with (ws / "studies.csv").open() as stream:
        rows = [r for r in list(csv.reader(stream))[1:] if split.folds.get(r[0]) != 2]
    write_studies(ws, rows)
    with pytest.raises(DataError, match="no study of the table stands in fold 2"):
        mvp.finetune(ws, folds=K, progress=False)


# ---- what is asked before a head may learn


def test_a_head_may_learn_from_what_network_k_says_of_fold_k_alone(folded):
    project = opened(folded)
    names, studies = fold_names(project), project.manifest.studies
    for name in names:
        own = held_out(project.split, studies, name)
        require_unseen(project, ["frontal"], own, "head", name)
        require_unseen(project, ["frontal"], in_test(project), "test", name)
        for other in names:
            if other != name:
                with pytest.raises(DataError, match=f"this view's network for {other}"):
                    require_unseen(project, ["frontal"], own, "head", other)


def test_folds_changed_behind_the_networks_back_are_refused(ws):
    path = ws / "split.csv"
    split = read_split(path)
    write_split(path, Split(split.parts, {s: (f + 1) % K for s, f in split.folds.items()}))
    project = opened(ws)
    for name in fold_names(project):
        own = held_out(project.split, project.manifest.studies, name)
        with pytest.raises(DataError, match="patients of the head rows trained") as error:
            require_unseen(project, ["frontal"], own, "head", name)
        assert f"mvp finetune --view frontal --fold {name[-1]}" in str(error.value)


def test_a_patient_renamed_after_training_is_still_known_by_his_studies(ws):
    with (ws / "studies.csv").open() as stream:
        rows = [[s, f"new{p}", *rest] for s, p, *rest in list(csv.reader(stream))[1:]]
    write_studies(ws, rows)
    project = opened(ws)
    others = (
        held_out(project.split, project.manifest.studies, "fold-1") if fold_names(project) else 0
    )
    with pytest.raises(DataError, match="trained this view's network"):
        require_unseen(project, ["frontal"], others, "head", "fold-0")


def test_fold_networks_are_asked_also_where_the_workspace_is_frozen_now(ws):
    edit(ws, '"holdout"', '"frozen"')
    project = opened(ws)
    fold_names(project)
    own = held_out(project.split, project.manifest.studies, "fold-0")
    require_unseen(project, ["frontal"], own, "head")
    with pytest.raises(DataError, match="trained this view's network for fold-1"):
        require_unseen(project, ["frontal"], own, "head", "fold-1")


# ---- use for features


def test_a_fold_that_is_not_trained_is_named_with_its_remedy(ws):
    shutil.rmtree(ws / "stage1" / "frontal" / "fold-1")
    networks = fold_networks(opened(ws), "frontal")
    assert next(networks)[0] == "fold-0"
    with pytest.raises(ConfigError, match="network for fold-1 is not trained yet") as error:
        next(networks)
    assert "`mvp finetune --view frontal --fold 1`" in str(error.value)
    assert "frozen" not in str(error.value)


def test_another_preparation_than_a_fold_was_trained_with_is_refused(ws):
    edit(ws, "size = 32", "size = 48")
    with pytest.raises(StaleError, match="network for fold-2 was trained otherwise"):
        feature_network(opened(ws), "frontal", "fold-2")


def test_the_protocol_of_the_workspace_leaves_the_folds_networks_fresh(ws):
    edit(ws, '"holdout"', '"same-rows"')
    done = mvp.finetune(ws, folds=K, progress=False)
    assert not any(done.views.values())


def test_provenance_holds_no_id_and_no_path_of_a_fold_holds_one(folded):
    ids = set(map(str, opened(folded).manifest.studies))
    for path in (folded / "stage1").rglob("*.json"):
        assert not any(f'"{i}"' in path.read_text() for i in ids), path
    assert json.loads((folded / "stage1/frontal/fold-0/provenance.json").read_text())["inputs"]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Two views of one source, with networks and features of two folds; one test film is bad."""
    ws = tmp_path_factory.mktemp("pairs") / "ws"
    toml = TOML.replace("[labels.finding]", '[views.again]\nsource = "frontal"\n\n[labels.finding]')
    files = write_films(ws, 24, toml)
    opened(ws).split  # noqa: B018 - deals it
    tested = sorted(s for s, part in read_split(ws / "split.csv").parts.items() if part == "test")
    mvp.finetune(ws, folds=2, progress=False)
    files[tested[0]].write_bytes(b"no picture")
    return ws, tested[0], mvp.extract(ws, folds=True, progress=False)


@pytest.fixture
def stored(pairs, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(pairs[0], tmp_path / "ws"))


def test_each_network_extracts_its_fold_and_test(pairs):
    ws, bad, done = pairs
    project = opened(ws)
    names = fold_names(project)
    assert list(done.views) == [f"{v} {name}" for v in ("frontal", "again") for name in names]
    for name in names:
        needed = needed_for(project.split, project.manifest.studies, name)
        for view in ("frontal", "again"):
            counts = done.views[f"{view} {name}"]
            assert (counts.images, counts.rows) == (needed.sum(), needed.sum() - 1)
            assert (counts.computed, counts.rejected) == (needed.sum() - 1, 1)
    # Every network meets the bad film; the reject table has it once a view.
    assert sorted((r.study, r.view) for r in done.rejects) == [(bad, "again"), (bad, "frontal")]
    assert done.exit_code == 4


def test_what_is_stored_of_folds_costs_nothing_and_shards_agree(stored):
    again = mvp.extract(stored, folds=True, progress=False)
    assert again.forward_passes == 0
    shutil.rmtree(stored / "cache" / "frontal")
    parts = [
        mvp.extract(stored, ["frontal"], folds=True, shard=f"{i}/2", progress=False) for i in (1, 2)
    ]
    for name in fold_names(opened(stored)):
        rows = sum(part.views[f"frontal {name}"].rows for part in parts)
        assert rows == again.views[f"frontal {name}"].rows


def fold_table(project, views, fold):
    return head_rows(project, views, "crossfit")[0][fold].table


def test_features_of_different_folds_never_meet_in_one_table(pairs):
    project, views = opened(pairs[0]), ["frontal", "again"]
    keys = {}
    for name in fold_names(project):
        stores = open_stores(project, views, name)
        keys[name] = {store.key.digest for store in stores.values()}
        assert len(keys[name]) == len(views)
        table = fold_table(project, views, name)
        needed = needed_for(project.split, project.manifest.studies, name)
        assert table.studies.tolist() == project.manifest.studies[needed].tolist()
        # The other fold's studies have no row under this fold's key.
        with pytest.raises(ConfigError, match="images have no cached features yet") as error:
            cached_table(project, stores, None, name)
        assert "`mvp extract --view frontal --folds`" in str(error.value)
    assert not keys["fold-0"] & keys["fold-1"]
    in_both = in_test(project) & (project.manifest.studies != pairs[1])
    wanted = project.manifest.studies[in_both].tolist()
    blocks = []
    for name in keys:
        table = fold_table(project, ["frontal"], name)
        blocks.append(table.block("frontal")[np.isin(table.studies, wanted)])
    assert not np.isclose(*blocks).all(axis=1).any()


def test_folds_without_features_are_named(stored):
    shutil.rmtree(stored / "cache" / "again")
    with pytest.raises(ConfigError, match="its present network for fold-0") as error:
        fold_table(opened(stored), ["frontal", "again"], "fold-0")
    assert "`mvp extract --view again --folds`" in str(error.value)


def test_what_folds_use_is_not_collected_until_the_folds_are_gone(stored):
    shutil.rmtree(stored / "cache" / ".workspaces")  # the one that this is a copy of
    mvp.extract(stored, folds=True, progress=False)
    assert not pipeline.cache_gc(stored, delete=True).facts["items"]
    assert mvp.extract(stored, folds=True, progress=False).forward_passes == 0
    used = {one for e in pipeline.cache_ls(stored).facts["keys"] for one in e["used_by"]}
    assert {"view frontal fold-0", "view again fold-1"} <= used
    # Dealt anew in a split without folds, nothing needs the networks of folds any more.
    split = read_split(stored / "split.csv")
    write_split(stored / "split.csv", Split(split.parts))
    assert len(pipeline.cache_gc(stored, delete=True).facts["items"]) == 4


def test_verify_computes_rows_of_every_fold_anew(stored):
    said = pipeline.cache_verify(stored, ["frontal"], sample=2, progress=False)
    lines = [s["text"] for s in said.facts["samples"] if s["rows"]]
    assert [line.split(":")[0] for line in lines] == ["frontal fold-0", "frontal fold-1"]


def test_extraction_without_networks_of_folds_is_refused(films, refused):
    code, line = refused("extract", "-w", films, "--folds")
    assert code == 2
    assert "the split has no folds" in line
    assert "`mvp finetune --folds 5`" in line


GROUP = """
[views.lateral]
aliases = ["LL"]
network = {share = "all"}

[views.copy]
source = "lateral"
network = {weights = "view:lateral"}

[labels.finding]"""


def test_networks_that_share_layers_or_start_from_others_stay_within_their_fold(tmp_path):
    """Whom the other networks of a fold saw, each has seen; nobody of the fold is among them."""
    ws = tmp_path / "ws"
    shared = 'aliases = ["PA"]\nnetwork = {share = "all"}'
    toml = TOML.replace('aliases = ["PA"]', shared).replace("\n[labels.finding]", GROUP)
    files = write_films(ws, 40, toml)
    names = list(files)
    # Half the patients have films of one view only, so that the networks saw others.
    views = ["PA" if i < 20 else "LL" for i in range(len(names))]
    write_studies(ws, [[s, f"p{i}", views[i], files[s].name, i % 2] for i, s in enumerate(names)])
    done = mvp.finetune(ws, folds=2, progress=False)
    assert list(done.views)[:3] == ["frontal fold-0", "lateral fold-0", "copy fold-0"]
    project = opened(ws)
    for fold in fold_names(project):
        held = held_out(project.split, project.manifest.studies, fold)
        for view in ("frontal", "lateral", "copy"):
            assert seen(ws, fold, view) == hashes(project, ~(held | in_test(project)))
            require_unseen(project, [view], held, "head", fold)
    assert len({view_key(project, "copy", fold).digest for fold in fold_names(project)}) == 2
