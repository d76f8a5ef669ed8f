"""Pictures of what was measured, also where little could be."""

import warnings

import numpy as np
import pytest

from mvp.reports.pictures import draw_roc


@pytest.mark.parametrize("first", [[0, 0, 0, 0], [0, 1, 0, 1]])
def test_a_label_with_a_class_missing_has_an_empty_panel_and_no_warning(tmp_path, first):
    truth = np.array([first, [1, 1, 1, 1]], np.float32).T
    curves = {"fusion": np.linspace(0, 1, 8, dtype=np.float32).reshape(4, 2)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_roc(tmp_path / "roc.png", truth, curves, ["a", "b"])
    assert (tmp_path / "roc.png").stat().st_size > 1000
