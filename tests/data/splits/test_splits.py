"""Splits: no patient and no image on two sides, whatever comes in."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.config import SplitConfig
from mvp.data.splits.split import PARTS, Split, link_groups, make_split, parts_for
from mvp.errors import ConfigError, DataError
from mvp.types import Labels, Target

FEW = settings(max_examples=60, deadline=None)


def texts(values):
    return np.array(list(values), dtype=object)


def labels_of(values):
    values = np.asarray(values, np.float32)
    return Labels(tuple(Target(f"l{i}") for i in range(values.shape[1])), values)


def split_of(patients, labels=None, *, presence=None, content=None, config=None, **more):
    n = len(patients)
    return make_split(
        texts(more.pop("studies", [f"S{i}" for i in range(n)])),
        texts(patients),
        labels_of(np.zeros((n, 1)) if labels is None else labels),
        np.ones((n, 2), bool) if presence is None else presence,
        config or SplitConfig(**more.pop("shares", {})),
        content=content,
        **more,
    )


@st.composite
def worlds(draw):
    """Patients, shared images, labels and views of up to 60 studies."""
    n = draw(st.integers(1, 60))
    patients = draw(st.lists(st.integers(0, 30).map(str), min_size=n, max_size=n))
    images = st.lists(st.integers(0, 80).map(str), max_size=3)
    content = draw(st.lists(images, min_size=n, max_size=n))
    seed = draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, np.nan], (n, 2))
    return patients, content, labels, rng.random((n, 2)) < 0.8, seed


def no_leak(split, patients, content):
    part = [split.parts[f"S{i}"] for i in range(len(patients))]
    for i, j in itertools.combinations(range(len(patients)), 2):
        if patients[i] == patients[j] or set(content[i]) & set(content[j]):
            assert part[i] == part[j]


@FEW
@given(worlds())
def test_no_patient_and_no_image_stands_in_two_parts(world):
    patients, content, labels, presence, seed = world
    arguments = {"presence": presence, "content": content, "shares": {"seed": seed}}
    split = split_of(patients, labels, **arguments)
    assert set(split.parts) == {f"S{i}" for i in range(len(patients))}
    assert set(split.parts.values()) <= set(PARTS)
    no_leak(split, patients, content)
    assert split_of(patients, labels, **arguments).digest == split.digest


@FEW
@given(worlds(), st.integers(1, 60))
def test_studies_that_stand_keep_their_part_when_others_come(world, first):
    patients, content, labels, presence, _ = world
    old = split_of(patients[:first], labels[:first], presence=presence[:first])
    content = [[f"own {i}"] for i in range(len(patients))]
    new = split_of(patients, labels, presence=presence, content=content, previous=old)
    assert {s: p for s, p in new.parts.items() if s in old.parts} == dict(old.parts)
    no_leak(new, patients, content)


@FEW
@given(worlds(), st.lists(st.sampled_from(["", "train", "test", *PARTS]), min_size=60, max_size=60))
def test_fixed_parts_are_kept_or_refused(world, wishes):
    patients, content, labels, presence, _ = world
    fixed = texts(wishes[: len(patients)])
    try:
        split = split_of(patients, labels, presence=presence, content=content, fixed=fixed)
    except DataError as error:
        assert "stand in different splits" in str(error)
        return
    no_leak(split, patients, content)
    for study, wish in zip(split.parts, fixed, strict=True):
        if wish == "train":
            assert split.parts[study] != "test"
        elif wish:
            assert split.parts[study] == wish


def test_links_run_through_chains():
    content = [["a"], ["a", "b"], ["b"], ["c"], []]
    groups = link_groups(texts(["P0", "P1", "P2", "P3", "P2"]), content)
    assert groups.tolist() == [0, 0, 0, 1, 0]
    assert link_groups(texts(["x", "y", "x"])).tolist() == [0, 1, 0]


def test_a_patient_and_an_image_of_the_same_name_are_not_linked():
    assert link_groups(texts(["a", "b"]), [["b"], ["c"]]).tolist() == [0, 1]


@pytest.mark.parametrize("how", ["patient", "image"])
def test_a_conflict_names_both_studies(how):
    patients = ["P", "P"] if how == "patient" else ["P", "Q"]
    with pytest.raises(DataError) as caught:
        split_of(patients, content=[["x"], ["x"]], fixed=texts(["train", "test"]))
    line = str(caught.value)
    assert "S0" in line
    assert "S1" in line
    assert line.isprintable()


def test_a_new_study_that_ties_old_ones_of_two_parts_together_is_refused():
    old = Split({"S0": "stage1", "S1": "test"})
    with pytest.raises(DataError, match="belong together"):
        split_of(["P", "Q", "R"], content=[["x"], ["y"], ["x", "y"]], previous=old)


def test_the_split_column_wins_over_a_split_that_stands():
    old = Split({"S0": "stage1"})
    assert split_of(["P"], fixed=texts(["test"]), previous=old).parts == {"S0": "test"}
    assert split_of(["P"], fixed=texts(["train"]), previous=old).parts == {"S0": "stage1"}


def test_an_unknown_word_in_the_split_column_is_refused_with_the_words_that_are_known():
    with pytest.raises(DataError) as caught:
        split_of(["P"], fixed=texts(["validation"]))
    assert "'validation'" in str(caught.value)
    assert "stage1-inner" in str(caught.value)


def large(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    patients = [str(p) for p in rng.integers(0, n // 2, n)]
    labels = (rng.random((n, 3)) < [0.5, 0.1, 0.02]).astype(float)
    labels[rng.random((n, 3)) < 0.1] = np.nan
    return patients, labels, rng.random((n, 2)) < [0.9, 0.6]


WANTED = {"stage1": 0.36, "stage1-inner": 0.09, "stage2": 0.24, "stage2-inner": 0.06, "test": 0.25}


def test_every_part_gets_its_share_of_studies_positives_and_views():
    patients, labels, presence = large()
    split = split_of(patients, labels, presence=presence)
    counts = split.counts()
    assert list(counts) == list(split.used)
    studies = texts(split.parts)
    for part, share in WANTED.items():
        mask = split.mask(studies, [part])
        assert mask.sum() == counts[part]
        assert counts[part] / len(studies) == pytest.approx(share, abs=0.02)
        for column in range(3):
            positive = labels[:, column] == 1
            expected = share * positive.sum()
            assert (positive & mask).sum() == pytest.approx(expected, abs=max(2, 0.1 * expected))
        both = presence.all(axis=1)
        assert (both & mask).sum() == pytest.approx(share * both.sum(), rel=0.1)


def test_rare_positives_reach_every_part():
    labels = np.zeros((400, 1))
    labels[:20] = 1
    split = split_of([str(i) for i in range(400)], labels)
    found = [split.mask(texts(split.parts), [part])[:20].sum() for part in split.used]
    assert min(found) >= 1


def test_the_seed_changes_the_deal_and_the_digest():
    patients, labels, presence = large(200)
    digests = {
        split_of(patients, labels, presence=presence, shares={"seed": s}).digest for s in range(5)
    }
    assert len(digests) == 5


def test_the_digest_is_of_the_assignment_not_of_its_order():
    assert Split({"a": "test", "b": "stage1"}).digest == Split({"b": "stage1", "a": "test"}).digest
    assert Split({"a": "test"}).digest != Split({"a": "stage1"}).digest


def test_nothing_is_split_into_nothing():
    assert split_of([], np.zeros((0, 1))).parts == {}


def test_a_study_that_nobody_dealt_is_in_no_part():
    assert Split({"a": "test"}).mask(texts(["a", "b"]), PARTS).tolist() == [True, False]


PROTOCOLS = ["holdout", "frozen", "same-rows"]


@pytest.mark.parametrize("networks", PROTOCOLS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("inner", ["", "-inner"])
def test_a_head_never_sees_rows_that_its_networks_saw(networks, protocol, inner):
    """Except under `same-rows`, which says so."""
    saw = set(parts_for("stage1", protocol, networks))
    saw |= set(parts_for("stage1-inner", protocol, networks))
    allowed = protocol == "same-rows" or networks == "frozen" or protocol == networks == "holdout"
    if not allowed:
        with pytest.raises(ConfigError, match="same-rows"):
            parts_for(f"stage2{inner}", protocol, networks)
        return
    parts = parts_for(f"stage2{inner}", protocol, networks)
    assert parts
    assert set(parts) <= set(PARTS)
    if protocol != "same-rows":
        assert not saw & set(parts)
    elif networks != "frozen":
        assert set(parts) <= saw


@pytest.mark.parametrize("networks", PROTOCOLS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_test_part_trains_nothing(networks, protocol):
    assert parts_for("test", protocol, networks) == ("test",)
    for role in PARTS[:4]:
        try:
            parts = parts_for(role, protocol, networks)
        except ConfigError:
            continue
        assert "test" not in parts
        assert all(p.endswith("-inner") == role.endswith("-inner") for p in parts)


def test_frozen_networks_saw_nothing():
    assert parts_for("stage1", "frozen", "frozen") == ()
    assert parts_for("stage2", "frozen", "frozen") == ("stage1", "stage2")


@FEW
@given(worlds(), st.integers(2, 5))
def test_no_patient_and_no_image_stands_in_two_folds(world, folds):
    patients, content, labels, presence, seed = world
    arguments = {"presence": presence, "content": content}
    try:
        split = split_of(patients, labels, config=SplitConfig(folds=folds, seed=seed), **arguments)
    except DataError as error:
        assert "folds need as many patients" in str(error)
        return
    plain = split_of(patients, labels, config=SplitConfig(seed=seed), **arguments)
    assert dict(split.parts) == dict(plain.parts)
    assert set(split.folds) == {s for s, part in split.parts.items() if part != "test"}
    assert set(split.folds.values()) <= set(range(folds))
    members = [f"S{i}" for i in range(len(patients))]
    for i, j in itertools.combinations(range(len(patients)), 2):
        if patients[i] == patients[j] or set(content[i]) & set(content[j]):
            assert split.folds.get(members[i]) == split.folds.get(members[j])


@FEW
@given(worlds(), st.integers(1, 60))
def test_studies_that_stand_keep_their_fold_when_others_come(world, first):
    patients, _, labels, presence, _ = world
    config = SplitConfig(folds=3)
    try:
        old = split_of(patients[:first], labels[:first], presence=presence[:first], config=config)
    except DataError:
        return
    try:
        new = split_of(patients, labels, presence=presence, previous=old, config=config)
    except ConfigError as error:
        assert max(old.folds.values()) < 2, error
        return
    assert {s: new.folds[s] for s in old.folds} == dict(old.folds)


def test_every_fold_gets_its_share_of_studies_positives_and_views():
    patients, labels, presence = large()
    split = split_of(patients, labels, presence=presence, config=SplitConfig(folds=5))
    counts = np.array(split.fold_counts())
    assert counts.sum() == len(split.folds)
    assert np.abs(counts / counts.sum() - 0.2).max() < 0.01
    inside = np.array([split.folds.get(f"S{i}", -1) for i in range(len(patients))])
    for trait in (labels[:, 0] == 1, labels[:, 1] == 1, labels[:, 2] == 1, presence.all(axis=1)):
        each = np.bincount(inside[trait & (inside >= 0)], minlength=5)
        assert each.max() - each.min() <= max(2, 0.1 * each.mean())


def test_folds_that_tear_a_patient_apart_are_refused_with_both_named():
    old = Split({"S0": "stage1", "S1": "stage1", "S2": "stage1"}, {"S0": 0, "S1": 1, "S2": 1})
    with pytest.raises(DataError, match="S0 and S1 belong together") as caught:
        split_of(["P", "P", "Q"], previous=old, config=SplitConfig(folds=2))
    assert "(0 and 1)" in str(caught.value)


def test_another_number_of_folds_is_refused():
    old = Split({"S0": "stage1", "S1": "stage1"}, {"S0": 0, "S1": 1})
    with pytest.raises(ConfigError, match="holds 2 folds"):
        split_of(["P", "Q"], previous=old, config=SplitConfig(folds=3))


@FEW
@given(worlds(), st.integers(1, 40))
def test_a_fixed_test_part_is_exactly_what_is_named(world, tested):
    patients, _, labels, presence, _ = world
    names = sorted(set(patients))[:tested]
    fixed = texts("test" if p in names else "" for p in patients)
    split = split_of(patients, labels, presence=presence, fixed=fixed)
    assert all((split.parts[f"S{i}"] == "test") == (p in names) for i, p in enumerate(patients))


def test_a_fixed_test_part_leaves_the_others_their_shares():
    patients, labels, presence = large()
    fixed = texts("test" if int(p) < 50 else "" for p in patients)
    split = split_of(patients, labels, presence=presence, fixed=fixed)
    counts = split.counts()
    rest = sum(counts.values()) - counts["test"]
    for part in PARTS[:4]:
        assert counts[part] / rest == pytest.approx(WANTED[part] / 0.75, abs=0.02)


def test_a_study_that_is_not_named_but_belongs_to_the_fixed_test_part_is_refused():
    with pytest.raises(DataError) as caught:
        split_of(["P", "P", "Q"], fixed=texts(["test", "", ""]))
    assert "S0" in str(caught.value)
    assert "S1 (not among the studies that are fixed as test)" in str(caught.value)


def test_the_rest_of_a_column_without_test_is_dealt_to_all_parts():
    fixed = texts(["train"] * 10 + [""] * 90)
    split = split_of([str(i) for i in range(100)], fixed=fixed)
    assert split.counts()["test"] == 25
    assert all(split.parts[f"S{i}"] != "test" for i in range(10))


def test_a_link_keeps_two_patients_together():
    patients = [str(i) for i in range(40)]
    links = [(i, i + 20) for i in range(20)]
    split = split_of(patients, links=links)
    assert all(split.parts[f"S{a}"] == split.parts[f"S{b}"] for a, b in links)
