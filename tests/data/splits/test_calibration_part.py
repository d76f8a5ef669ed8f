"""The calibration slice: patients whom nothing learns from, taken from what stage two has."""

import numpy as np
import pytest

from mvp.config import SplitConfig
from mvp.data.splits.split import TRAIN, make_split
from mvp.errors import DataError
from mvp.types import Labels, Target

N = 400
STUDIES = np.array([f"S{i}" for i in range(N)])
PATIENTS = np.array([f"P{i // 2}" for i in range(N)])


def dealt(config, **more):
    rng = np.random.default_rng(0)
    labels = Labels((Target("x"),), rng.integers(0, 2, (N, 1)).astype(np.float32))
    return make_split(
        STUDIES, PATIENTS, labels, np.ones((N, 2), bool), SplitConfig(**config), **more
    )


def test_the_slice_has_its_share_and_stage_one_loses_nothing():
    without, with_slice = dealt({}), dealt({"calibration": 0.1})
    assert "calibration" not in without.counts()
    assert with_slice.counts()["calibration"] == pytest.approx(0.1 * N, abs=4)
    for part in ("stage1", "stage1-inner", "test"):
        assert with_slice.counts()[part] == pytest.approx(without.counts()[part], abs=4)


def test_no_patient_stands_on_both_sides():
    split = dealt({"calibration": 0.1})
    inside = {p for s, p in zip(STUDIES, PATIENTS, strict=True) if split.parts[s] == "calibration"}
    assert inside
    assert all(
        split.parts[s] == "calibration"
        for s, p in zip(STUDIES, PATIENTS, strict=True)
        if p in inside
    )


def test_a_slice_that_is_wanted_later_takes_nobody_whom_a_network_has_seen():
    before = dealt({})
    after = dealt({"calibration": 0.1}, previous=before)
    moved = {s for s in STUDIES if before.parts[s] != after.parts[s]}
    assert {after.parts[s] for s in moved} == {"calibration"}
    assert {before.parts[s] for s in moved} <= {"stage2", "stage2-inner"}
    assert after.counts()["calibration"] == pytest.approx(0.1 * N, abs=6)
    # Once it stands it stays.
    assert dealt({"calibration": 0.2}, previous=after).parts == after.parts


def test_folds_are_of_those_who_may_be_learned_from():
    split = dealt({"calibration": 0.1, "folds": 4})
    assert {split.parts[s] for s in split.folds} <= set(TRAIN)
    assert set(split.folds) == {s for s in STUDIES if split.parts[s] in TRAIN}


def test_a_study_may_be_named_for_it_and_train_means_any_part_but_test():
    wishes = np.array([""] * N, dtype=object)
    wishes[:2], wishes[2:100] = "calibration", "train"
    split = dealt({}, fixed=wishes)
    assert {split.parts[s] for s in STUDIES[:2]} == {"calibration"}
    assert "test" not in {split.parts[s] for s in STUDIES[2:100]}
    # Without a share nobody else is dealt to it.
    assert split.counts()["calibration"] == 2
    wishes[1] = "test"
    with pytest.raises(DataError, match="belong together"):
        dealt({}, fixed=wishes)


def test_a_slice_as_large_as_stage_two_is_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        SplitConfig(stage2=0.3, calibration=0.3)
