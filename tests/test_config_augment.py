"""`[augment]` and `tta`: what is said comes before a preset, and nothing is said for nothing."""

import pytest

from mvp.config import flipped_sides
from mvp.config.augment import PRESETS
from tests.test_config import config, refused


def test_a_view_lays_what_was_said_over_its_own_preset():
    found = config(
        "[augment]\nrotate = 12.0\n[views.mr]\n[views.mr.augment]\npreset = 'mri'\nnoise = 0.0\n"
        "[views.cc]\n[views.cc.augment]\ncontrast = 0.3\n"
    )
    mri, breast, frontal = (found.view(v).augment for v in ("mr", "cc", "frontal"))
    quiet = {name: value for name, value in PRESETS["mri"].items() if name != "noise"}
    assert mri.changes == {**quiet, "rotate": 12.0}
    assert breast.changes == {**PRESETS["cxr"], "rotate": 12.0, "contrast": 0.3}
    assert frontal.changes == {**PRESETS["cxr"], "rotate": 12.0}


def test_the_default_is_a_gentle_change_of_films():
    assert config().view("frontal").augment.changes == {
        "rotate": 5.0,
        "shift": 0.05,
        "scale": 0.05,
        "brightness": 0.1,
        "contrast": 0.1,
    }


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ("[augment]\npreset = 'xray'", "augment.preset"),
        ("[augment]\ncrop = 1.0", "augment.crop"),
        ("[augment]\nhue = 0.6", "augment.hue"),
        ("[augment]\nerase = 2", "augment.erase"),
        ("[views.axial.augment]\nblur = -1", "views.axial.augment.blur"),
        ("[views.axial.augment]\nflips = true", "did you mean 'flip'"),
        ("[extract]\ntta = 0", "extract.tta"),
        ("[extract]\ntta = 65", "extract.tta"),
        ("[head]\ntta = 'max'", "head.tta"),
    ],
)
def test_a_wrong_value_names_its_setting(more, where):
    assert where in refused(more)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[extract]\ntta = 4\ninstances = 'max'", 'needs instances = "keep"'),
        ("[extract]\ntta = 2\n[network]\nlayer = 'x'\npooling = 'map'", "network.pooling = 'map'"),
        ("[extract]\ntta = 2\n[views.b.network]\nlayer = 'x'\npooling = 'rows'", "views.b"),
        ("[extract]\ntta = 2\n[augment]\npreset = 'none'", "nothing to draw for views.frontal"),
        ("[extract]\ntta = 2\n[views.b.augment]\npreset = 'none'", "nothing to draw for views.b"),
        ("[head]\ntta = 'augment'", "needs draws: set extract.tta"),
        ("[augment]\nsaturation = 0.2", "augment.saturation has no meaning"),
        ("[views.b.augment]\nhue = 0.2", "views.b.augment.hue has no meaning"),
        (
            "[views.a.augment]\nhue = 0.2\n[views.b.transform]\ncolor = 'rgb'",
            "views.a.augment.hue has no meaning",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(more, says):
    assert says in refused(more)


def test_draws_need_a_view_of_images():
    text = "[data]\ntable = 't.csv'\n[views.note]\nkind = 'text'\ncolumn = 'note'\n[labels.a]\n"
    assert "extract.tta has no meaning without" in refused("[extract]\ntta = 2", text)


def test_what_has_a_meaning_is_taken():
    assert config("[extract]\ntta = 4\n[head]\ntta = 'augment'").head.tta == "augment"
    colour = config("[augment]\nhue = 0.1\n[views.b.transform]\ncolor = 'rgb'")
    assert colour.view("b").augment.hue == 0.1
    assert config("[augment]\npreset = 'photo'").augment.saturation > 0
    assert config("[augment]\nsaturation = 0.0").augment.saturation == 0
    # Imported views and texts are not drawn from, whatever they are beside.
    views = "[views.x]\nimported = true\n[views.t]\nkind = 'text'\ncolumn = 'report'\n"
    assert config(f"[extract]\ntta = 2\n{views}").extract.tta == 2


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ("[views.lcc]\naliases = ['L CC']", "'lcc'"),
        ("[views.cc]\naliases = ['CC', 'R-CC']", "'R'"),
        ("[views.knee_left]", "'left'"),
        ("[views.mlo]\naliases = ['LMLO']", "'LMLO'"),
        ("[views.mlo]\naliases = ['medio-lateral']", None),
        ("[views.pa_film]", None),
    ],
)
def test_a_flip_where_sides_are_told_apart_is_pointed_out(view, told):
    found = config(f"{view}\n[augment]\nflip = true")
    message = flipped_sides(found, list(found.views)[-1])
    assert (message is None) == (told is None)
    assert told is None or told in message
    assert flipped_sides(config(view), list(found.views)[-1]) is None


def test_a_flip_of_a_view_with_a_side_is_pointed_out_also_to_who_looks_at_its_images():
    text = (
        "[data]\ntable = 't.csv'\nlaterality = 'side'\n[views.cc]\nside = 'left'\n"
        "[views.again]\nsource = 'cc'\n[labels.a]\n[augment]\nflip = true\n"
    )
    found = config(text=text)
    assert "side = 'left'" in flipped_sides(found, "cc")
    assert "side = 'left'" in flipped_sides(found, "again")
