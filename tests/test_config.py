"""`mvp.toml`: defaults load; what is wrong is one line that names the setting."""

import re

import pytest

from mvp.config import (
    AugmentConfig,
    EvaluateConfig,
    ExtractConfig,
    HeadConfig,
    JointConfig,
    NetworkConfig,
    SplitConfig,
    TrainingConfig,
    TransformConfig,
    load_config,
    parse_config,
)
from mvp.errors import ConfigError

SMALL = """
[data]
table = "t.csv"
[views.frontal]
aliases = ["PA", "AP"]
[views.lateral]
[labels.mass]
"""


def config(more="", text=SMALL, tmp="mvp.toml"):
    return parse_config(f"{more}\n{text}" if "[" not in more else f"{text}\n{more}", tmp)


def refused(more="", text=SMALL):
    with pytest.raises(ConfigError) as caught:
        config(more, text)
    line = str(caught.value)
    assert line.isprintable()
    assert "mvp.toml" in line
    return line


def test_every_default_loads_and_is_valid_when_it_is_written_out():
    for section in (
        AugmentConfig, EvaluateConfig, ExtractConfig, HeadConfig, JointConfig,
        NetworkConfig, SplitConfig, TrainingConfig, TransformConfig,
    ):  # fmt: skip
        assert section.model_validate(section().model_dump()) == section()
    found = config()
    assert type(found).model_validate(found.model_dump(exclude_none=True)) == found
    assert found.protocol == "holdout"


def test_flips_are_off_by_default():
    assert config().augment.flip is False


@pytest.mark.parametrize(
    ("more", "where", "nearest"),
    [
        ("protocoll = 'holdout'", "protocoll", "protocol"),
        ("[training]\nepoch = 3", "training.epoch", "epochs"),
        ("[views.axial]\nalias = 'x'", "views.axial.alias", "aliases"),
        ("[labels.x]\npostive = 'a'", "labels.x.postive", "positive"),
        ("[views.axial.transform]\nsizes = 3", "views.axial.transform.sizes", "size"),
        ("[heads]\nlearner = 'mlp'", "heads", "head"),
    ],
)
def test_an_unknown_setting_is_named_with_its_nearest(more, where, nearest):
    line = refused(more)
    assert f"{where}: unknown setting; did you mean {nearest!r}?" in line


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ("seed = 'x'", "seed"),
        ("protocol = 'cross'", "protocol"),
        ("workers = -1", "workers"),
        ("[transform]\nsize = 'big'", "transform.size"),
        ("[transform]\nsize = 4", "transform.size"),
        ("[transform]\nmean = [nan, 0, 0]", "transform.mean"),
        ("[transform]\nfit = 'squeeze'", "transform.fit"),
        ("[training]\nlearning_rate = inf", "training.learning_rate"),
        ("[training]\nlearning_rate = 0", "training.learning_rate"),
        ("[training]\nbatch_size = 1", "training.batch_size: should be a whole number from 2"),
        ("[training]\nbatch_size = 'all'", "training.batch_size: should be a whole number from 2"),
        ("[extract]\ndtype = 'int8'", "extract.dtype"),
        ("[extract]\nunit_rows = 0", "extract.unit_rows"),
        ("[split]\ntest = 1.0", "split.test"),
        ("[labels.x]\nblank = 'zero'", "labels.x.blank"),
        ("[labels.x]\npositive = 1", "labels.x.positive"),
        ("[views.axial]\nimages = 'last'", "views.axial.images"),
        ("[views.axial.network]\npooling = 'sum'", "views.axial.network.pooling"),
        ("views = 3", "views"),
    ],
)
def test_a_wrong_value_names_its_setting(more, where):
    text = SMALL if more != "views = 3" else "[data]\ntable = 't'\n[labels.a]\n"
    assert f"{where}" in refused(more, text)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[split]\ntest = 0.6\nstage2 = 0.4", "nothing for stage one"),
        ("[transform]\npercentiles = [99, 1]", "percentiles"),
        ("[transform]\nstd = [1, 0, 1]", "std"),
        ("[transform]\nmean = [1, 2]", "mean"),
        ("[labels.x]\nkind = 'multiclass'", "classes"),
        ("[labels.x]\nkind = 'multiclass'\nclasses = ['a']", "classes"),
        ("[labels.x]\nkind = 'multiclass'\nclasses = ['a', 'A']", "twice"),
        ("[labels.x]\nkind = 'multiclass'\nclasses = ['a', 'b']\nblank = 'negative'", "`blank`"),
        ("[labels.x]\nkind = 'multiclass'\nclasses = ['a', 'b']\nother = 'negative'", "other"),
        ("[labels.x]\nclasses = ['a', 'b']", "multiclass"),
        ("[labels.x]\npositive = 'Yes'\nnegative = 'yes'", "'yes'"),
        ("[labels.study]", "'study'"),
        ("[labels.has_x]", "'has_x'"),
        ("[views.axial]\naliases = 'pa'", "'pa'"),
        ("[views.axial]\naliases = 'Frontal'", "'Frontal'"),
        ("[views.axial]\nlabels = ['mas']", "'mas'"),
        ("[views.axial]\nlabels = []", "`labels` names none"),
        ("[views.axial]\nlabels = ['mass', 'mass']", "one twice"),
        ("[views.axial]\nsource = 'nope'", "'nope'"),
        ("[views.axial]\nsource = 'PA'", "'PA'"),
        ("[views.b]\nsource = 'c'\n[views.c]\nsource = 'frontal'", "'c'"),
        ("[views.'../x']", "'../x'"),
        ("[views.mean]", "'mean'"),
        ("[head]\nviews = ['axial']", "'axial'"),
        ("[head]\nviews = []", "head.views"),
        ("[head]\nlearner = 'attention'\ninstances = 'max'", "has no meaning for the learner"),
    ],
)
def test_settings_that_contradict_each_other(more, says):
    assert says in refused(more)


def test_what_is_missing_is_named():
    assert "data.table: is missing" in refused(text="[data]\n[views.a]\n[labels.b]\n")
    assert "data: is missing" in refused(text="[views.a]\n[labels.b]\n")
    line = refused(text="[data]\ntable = 't'\n")
    assert "views: is missing" in line
    assert "labels: is missing" in line
    assert "views" in refused(text="[data]\ntable = 't'\n[views]\n[labels.b]\n")
    assert "data.study" in refused(text="[data]\ntable = 't'\nstudy = []\n[views.a]\n[labels.b]\n")


def test_a_view_lays_its_settings_over_the_common_ones():
    found = config(
        "[transform]\nsize = 64\nfit = 'crop'\n[network]\nname = 'resnet50'\n"
        "[views.axial]\nlabels = ['mass']\n[views.axial.transform]\nsize = 32\n"
        "[views.axial.network]\npooling = 'max'\n"
    )
    axial, frontal = found.view("axial"), found.view("frontal")
    assert (axial.transform.size, axial.transform.fit) == (32, "crop")
    assert (axial.network.name, axial.network.pooling) == ("resnet50", "max")
    assert (frontal.transform.size, frontal.network.pooling) == (64, "avg")
    assert axial.labels == frontal.labels == ("mass",)


def test_an_overlay_is_checked_together_with_what_it_lies_on():
    line = refused("[transform]\npercentiles = [50, 60]\n[views.a.transform]\npercentiles = [9, 1]")
    assert "percentiles" in line


def test_a_view_may_look_at_the_images_of_another_whatever_the_case():
    found = config("[views.second]\nsource = 'FRONTAL'")
    assert found.view("second").source.casefold() == "frontal"
    assert found.view("frontal").source == "frontal"


def test_views_that_are_asked_for():
    found = config()
    assert found.require_views(None) == ["frontal", "lateral"]
    assert found.require_views(["lateral", "lateral"]) == ["lateral"]
    with pytest.raises(ConfigError, match=re.escape("did you mean 'frontal'?")):
        found.require_views(["frontl"])


def test_settings_cannot_change_after_they_were_read():
    with pytest.raises(ValueError, match="frozen"):
        config().seed = 3


def test_files_that_are_no_settings(tmp_path):
    path = tmp_path / "mvp.toml"
    with pytest.raises(ConfigError, match="mvp init"):
        load_config(path)
    for data in (b"[data\n", b"\xff\xfe", b"x = 1\nx = 2\n"):
        path.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value).isprintable()
        assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "mvp.toml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load_config(path) == config()
