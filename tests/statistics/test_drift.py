from __future__ import annotations

import json

import numpy as np
import pytest

from mvp.errors import DataError
from mvp.statistics.drift import DriftMeter, DriftReference
from mvp.statistics.drift_report import stability_index

WIDTH = 48


def studies(seed: int, rows: int = 600, *, shift=0.0, scale=1.0, without=0.3):
    """Rectified and correlated frontal features, plain lateral ones that some studies lack."""
    mixing = np.random.default_rng(99).normal(size=(12, WIDTH))
    rng = np.random.default_rng(seed)
    frontal = np.maximum(rng.normal(size=(rows, 12)) @ mixing, 0)
    lateral = rng.normal(size=(rows, 20)) * scale + shift
    lateral[rng.random(rows) < without] = np.nan
    return {"frontal": frontal.astype(np.float32), "lateral": lateral.astype(np.float32)}


def reference() -> DriftReference:
    return DriftReference.fit([studies(0), studies(1)], [studies(2)])


def report_of(made, *batches):
    meter = DriftMeter(made)
    for batch in batches:
        meter.add(batch)
    return meter.report()


def by_view(report):
    return {line.view: line for line in report.views}


def test_studies_like_those_of_training_are_as_far_as_held_out_ones() -> None:
    for view in report_of(reference(), studies(3), studies(4)).views:
        assert view.times_as_far == pytest.approx(1, abs=0.06)
        assert view.beyond < 0.03
        assert view.distance_index < 0.1
        assert view.projection_index < 0.1


def test_the_view_that_moved_is_named_and_how_far() -> None:
    views = by_view(report_of(reference(), studies(5, scale=3.0)))
    assert views["lateral"].times_as_far == pytest.approx(3, rel=0.1)
    assert views["lateral"].beyond > 0.98
    assert views["lateral"].text.startswith("lateral: 3.0 times as far from training as held-out")
    assert "studies beyond the 99th percentile" in views["lateral"].text
    assert views["frontal"].times_as_far == pytest.approx(1, abs=0.06)
    shifted = by_view(report_of(reference(), studies(5, shift=2.0)))
    assert shifted["lateral"].times_as_far == pytest.approx(np.sqrt(5), rel=0.1)


def test_studies_that_lie_too_near_are_noticed_by_the_index() -> None:
    """A blank image has features of its own, which may be nearer to the mean than any study's."""
    batch = studies(6)
    batch["frontal"][:] = batch["frontal"].mean(axis=0)
    view = by_view(report_of(reference(), batch))["frontal"]
    assert view.times_as_far < 0.9
    assert view.beyond == 0
    assert view.distance_index > 1


def test_shares_of_patterns_then_and_now() -> None:
    report = report_of(reference(), studies(7, 1000, without=0.8))
    shares = {p.pattern: p for p in report.patterns}
    assert shares["frontal+lateral"].then == pytest.approx(0.7, abs=0.05)
    assert shares["frontal+lateral"].now == pytest.approx(0.2, abs=0.05)
    assert shares["frontal"].rows + shares["frontal+lateral"].rows == report.studies == 1000
    assert sum(p.now for p in report.patterns) == pytest.approx(1)
    assert any(line.startswith("frontal alone: ") for line in report.lines)
    alone = studies(8, 10)
    alone["frontal"][:] = np.nan
    new = {p.pattern: p for p in report_of(reference(), alone).patterns}
    assert new["lateral"].then == 0
    assert new["lateral"].now > 0


def test_batches_of_any_size_and_missing_rows_change_nothing() -> None:
    whole = studies(9, 5000)
    parts = [{v: b[i : i + 617] for v, b in whole.items()} for i in range(0, 5000, 617)]
    one, two = report_of(reference(), whole), report_of(reference(), *parts)
    assert one == two
    first = DriftReference.fit([whole], [studies(2)])
    second = DriftReference.fit(parts, [studies(2)])
    for view, made in first.views.items():
        np.testing.assert_allclose(second.views[view].mean, made.mean, rtol=1e-5)
        np.testing.assert_allclose(second.views[view].scale, made.scale, rtol=1e-5)
    assert first.patterns == second.patterns


def test_mean_and_scale_are_those_of_the_training_studies() -> None:
    batches = [studies(0), studies(1)]
    made = DriftReference.fit(batches, []).views["lateral"]
    rows = np.concatenate([b["lateral"] for b in batches]).astype(np.float64)
    np.testing.assert_allclose(made.mean, np.nanmean(rows, axis=0), rtol=1e-5)
    np.testing.assert_allclose(made.scale, np.nanstd(rows, axis=0), rtol=1e-5)
    assert made.rows == (~np.isnan(rows[:, 0])).sum()


def test_a_feature_that_never_moved_makes_no_distance_endless() -> None:
    def dead(seed, value=0.0):
        batch = studies(seed)
        batch["frontal"][:, 0] = value
        return batch

    made = DriftReference.fit([dead(0)], [dead(1)])
    view = by_view(report_of(made, dead(2)))["frontal"]
    assert view.times_as_far == pytest.approx(1, abs=0.06)
    assert 2 < by_view(report_of(made, dead(2, 1.0)))["frontal"].times_as_far < 100
    alike = {"frontal": np.ones((30, 4))}
    still = DriftReference.fit([alike], [alike])
    assert by_view(report_of(still, alike))["frontal"].beyond == 0
    assert by_view(report_of(still, {"frontal": np.full((30, 4), 3.0)}))["frontal"].beyond == 1


def test_without_held_out_studies_or_new_ones_it_is_undefined() -> None:
    bare = DriftReference.fit([studies(0)], [])
    view = by_view(report_of(bare, studies(1)))["frontal"]
    assert (view.times_as_far, view.beyond, view.distance_index) == (None, None, None)
    assert "undefined" in view.text
    nothing = report_of(reference())
    assert nothing.studies == 0
    assert "no study has it" in nothing.lines[0]
    assert "undefined now" in nothing.lines[-1]


def test_a_reference_is_written_and_read_and_knows_no_study() -> None:
    made = reference()
    written = json.dumps(made.to_json(), allow_nan=False)
    read = DriftReference.from_json(json.loads(written))
    assert report_of(read, studies(5, shift=1.0)) == report_of(made, studies(5, shift=1.0))
    assert len(written) < 40_000
    json.dumps(report_of(made, studies(5)).to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "damage",
    [
        lambda v: v.pop("patterns"),
        lambda v: v["views"]["frontal"].pop("mean"),
        lambda v: v["views"]["frontal"]["scale"].pop(),
        lambda v: v["views"]["frontal"].update(scale=[0.0] * WIDTH),
        lambda v: v.update(views=[]),
    ],
)
def test_a_damaged_reference_is_refused(damage) -> None:
    written = reference().to_json()
    damage(written)
    with pytest.raises(DataError, match="cannot be read"):
        DriftReference.from_json(written)


def test_features_of_another_kind_are_refused() -> None:
    meter = DriftMeter(reference())
    with pytest.raises(DataError, match="no study with the view"):
        meter.add({"oblique": np.ones((2, 3))})
    with pytest.raises(DataError, match="width 3, but training had width 48"):
        meter.add({"frontal": np.ones((2, 3))})
    torn = studies(0, 5)
    torn["frontal"][2, 3] = np.nan
    with pytest.raises(DataError, match="partly NaN"):
        meter.add(torn)
    with pytest.raises(DataError, match="shape"):
        meter.add({"frontal": np.ones(48)})
    with pytest.raises(DataError, match="change their width"):
        DriftReference.fit([studies(0), {"frontal": np.ones((2, 3))}], [])


def test_stability_index_of_known_shares() -> None:
    assert stability_index([50, 50], [5, 5]) == 0
    expected = (0.8 - 0.5) * np.log(0.8 / 0.5) + (0.2 - 0.5) * np.log(0.2 / 0.5)
    assert stability_index([50, 50], [80, 20]) == pytest.approx(expected)
    assert np.isfinite(stability_index([10, 0], [0, 10]))


def test_the_index_by_chance_is_what_it_is_without_drift() -> None:
    found = [
        by_view(report_of(reference(), studies(seed, 300)))["frontal"] for seed in range(20, 32)
    ]
    mean = np.mean([v.projection_index for v in found])
    assert mean == pytest.approx(found[0].index_by_chance, rel=0.5)
