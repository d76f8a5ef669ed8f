"""Curves and matrices are drawn as they were measured, also where little was."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from mvp.reports import draw_calibration, draw_confusion, draw_precision_recall


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is written, and no warning on the way."""
    written, before = [], Figure.savefig

    def keep(figure, *args, **settings):
        written.append(figure)
        return before(figure, *args, **settings)

    monkeypatch.setattr(Figure, "savefig", keep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield written


def is_small_png(path) -> bool:
    data = path.read_bytes()
    return data.startswith(b"\x89PNG") and 1000 < len(data) < 150_000


def test_precision_recall_of_every_model_and_what_chance_reaches(tmp_path, figures) -> None:
    rng = np.random.default_rng(0)
    curve = (np.linspace(0, 1, 5000), np.sort(rng.random(5000))[::-1])
    curves = {f"label {i}": {"frontal": curve, "fusion": curve} for i in range(4)}
    curves["label 2"] = {"frontal": None, "fusion": None}
    draw_precision_recall(tmp_path / "pr.png", curves, {"label 0": 0.2})
    assert is_small_png(tmp_path / "pr.png")
    panels = figures[0].axes
    assert [p.get_title() for p in panels] == list(curves)
    assert [len(p.lines) for p in panels] == [3, 2, 0, 2]
    np.testing.assert_array_equal(panels[0].lines[0].get_ydata(), curve[1])
    assert set(panels[0].lines[2].get_ydata()) == {0.2}
    assert panels[0].lines[1].get_color() == "#D55E00"


def test_calibration_curves_say_how_many_studies_they_rest_on(tmp_path, figures) -> None:
    bins = (np.array([0.1, 0.5]), np.array([0.2, 0.4]), np.array([50, 51]))
    even = (np.array([0.1, 0.5]), np.array([0.2, 0.4]), np.array([50, 50]))
    draw_calibration(
        tmp_path / "cal.png",
        {"a": {"before": bins, "calibrated": even}, "b": {"before": None, "calibrated": None}},
    )
    assert is_small_png(tmp_path / "cal.png")
    first, second = figures[0].axes
    texts = [t.get_text() for t in first.get_legend().get_texts()]
    assert texts == ["before: 2 × 50–51", "calibrated: 2 × 50"]
    np.testing.assert_array_equal(first.lines[1].get_xdata(), bins[0])
    assert second.get_legend() is None


def test_confusion_shows_counts_and_shares_of_the_true_class(tmp_path, figures) -> None:
    draw_confusion(
        tmp_path / "confusion.png",
        {
            "Effusion": (np.array([[30, 10], [0, 0]]), ["absent", "present"]),
            "density": (np.arange(16).reshape(4, 4), ["a", "b", "c", "d"]),
        },
    )
    assert is_small_png(tmp_path / "confusion.png")
    first, second = figures[0].axes
    assert [t.get_text() for t in first.texts] == ["30\n75%", "10\n25%", "0", "0"]
    assert len(second.texts) == 16
    assert [t.get_text() for t in second.get_yticklabels()] == ["a", "b", "c", "d"]
    # The true class stands on the rows.
    assert (second.get_ylabel(), second.get_xlabel()) == ("true", "called")
    assert second.texts[1].get_position() == (1, 0)


def test_nothing_to_draw_is_an_empty_picture(tmp_path, figures) -> None:
    draw_precision_recall(tmp_path / "a.png", {}, {})
    draw_calibration(tmp_path / "b.png", {})
    draw_confusion(tmp_path / "c.png", {})
    assert len(figures) == 3
