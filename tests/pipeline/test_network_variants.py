"""Networks that share layers, copies of networks, and several bodies on one image."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import mvp
from mvp.config import parse_config
from mvp.errors import ConfigError, DataError, StaleError
from mvp.pipeline._finetune import plan_finetune
from mvp.pipeline.project import Project
from mvp.pipeline.provenance import patient_hashes, read_provenance
from tests.pipeline.conftest import edit

STUDIES = 60
# The first convolution, of grey images and of ones.
FIRST = "stem.0.convolution.weight"
TOML = """
seed = 5

[data]
table = "studies.csv"
root = "data"

[labels.finding]
[labels.other]

[network]
name = "small"
#network

[transform]
size = 16

[training]
epochs = 1
batch_size = 8

[extract]
unit_rows = 16

[head]
learner = "logistic"

[evaluate]
draws = 100

[views.frontal]
#frontal

[views.lateral]
#lateral
"""
COPY = '[views.copy]\nsource = "frontal"\nnetwork = {weights = "view:frontal"}\n'
STILL = 'training = {freeze = "all"}\n'


def write(folder, **lines):
    """Small made films of two views; `lines` go to their places in the settings."""
    (folder / "data").mkdir(parents=True)
    rng = np.random.default_rng(1)
    with (folder / "studies.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["study", "patient", "view", "path", "finding", "other"])
        for number in range(STUDIES):
            finding, other = number % 2, int(rng.random() < 0.3)
            for view in ("frontal", "lateral"):
                pixels = rng.integers(0, 120, (16, 16), dtype=np.uint8)
                pixels[4:8] += 100 * finding
                pixels[:, 10:12] += 100 * other
                path = f"{view}{number}.png"
                Image.fromarray(pixels).save(folder / "data" / path)
                writer.writerow([f"s{number}", f"p{number}", view, path, finding, other])
    toml = TOML
    for place, line in lines.items():
        toml = toml.replace(f"#{place}", line) if place != "views" else toml + line
    (folder / "mvp.toml").write_text(toml)
    return folder


def edit_pixel(path):
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def folder_of(ws, view):
    return ws / "stage1" / view / "all"


def weights(ws, view):
    return load_file(folder_of(ws, view) / "weights.safetensors")


def made(ws, view):
    return read_provenance(folder_of(ws, view))


def plan(ws):
    return {s.name: (s.runs, s.reason) for s in mvp.run(ws, dry_run=True, progress=False).steps}


def in_part(ws, *parts):
    with (ws / "split.csv").open() as stream:
        return [row["study"] for row in csv.DictReader(stream) if row["part"] in parts]


def move(ws, studies, part):
    """Give some studies another part in split.csv."""
    text = (ws / "split.csv").read_text().splitlines()
    lines = [
        f"{line.split(',')[0]},{part}" if line.split(",")[0] in studies else line for line in text
    ]
    (ws / "split.csv").write_text("\n".join(lines) + "\n")


def copied(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "ws"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two views with one stem, trained by naming one of them."""
    ws = write(tmp_path_factory.mktemp("shared") / "ws", network='share = "stages.1"')
    done = mvp.finetune(ws, ["lateral"], progress=False)
    return ws, done


@pytest.fixture(scope="module")
def duplicated(tmp_path_factory):
    """Three views: two of their own, and a copy of the frontal network."""
    ws = write(tmp_path_factory.mktemp("copy") / "ws", views=COPY + STILL)
    return ws, mvp.finetune(ws, progress=False)


def test_naming_one_view_of_a_group_trains_the_group_and_says_so(shared):
    ws, done = shared
    assert list(done.views) == ["frontal", "lateral"]
    assert done.together == {"frontal": ["lateral"], "lateral": ["frontal"]}
    assert "together with frontal" in done.text
    assert done.to_json()["views"]["frontal"]["together"] == ["lateral"]
    again = mvp.finetune(ws, progress=False)
    assert set(again.views.values()) == {None}


def test_the_stem_is_one_and_the_tails_are_two(shared):
    ws, _ = shared
    frontal, lateral = weights(ws, "frontal"), weights(ws, "lateral")
    assert frontal.keys() == lateral.keys()
    for name, values in frontal.items():
        stem = name.startswith(("stem.", "stages.0.", "stages.1."))
        counted = name.endswith("num_batches_tracked")
        assert np.array_equal(values, lateral[name]) == (stem or counted), name


def test_every_network_of_a_group_has_seen_the_patients_of_all(tmp_path, shared):
    ws = write(tmp_path / "ws", network='share = "stages.1"')
    # One study of stage one lacks the one view, another the other.
    shutil.copy(shared[0] / "split.csv", ws)
    first, second = in_part(ws, "stage1")[:2]
    rows = list(csv.reader((ws / "studies.csv").open()))
    kept = [r for r in rows if (r[0], r[2]) not in {(first, "frontal"), (second, "lateral")}]
    with (ws / "studies.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(kept)
    mvp.finetune(ws, progress=False)
    project = Project(ws, progress=False)
    trained = {s.replace("s", "p") for s in in_part(ws, "stage1", "stage1-inner")}
    for view in ("frontal", "lateral"):
        assert made(ws, view)["patients"] == patient_hashes(project.workspace, trained)


@pytest.mark.parametrize("view", ["frontal", "lateral"])
def test_other_images_of_one_view_make_the_whole_group_stale(tmp_path, shared, view):
    ws = copied(shared[0], tmp_path)
    study = in_part(ws, "stage1")[0]
    path = ws / "data" / f"{view}{study[1:]}.png"
    Image.open(path).point(lambda value: 255 - value).save(path)
    project = Project(ws, progress=False)
    for name in ("frontal", "lateral"):
        assert "changed since it was trained" in plan_finetune(project, name)
    done = mvp.finetune(ws, ["frontal"], progress=False)
    assert None not in done.views.values()


def test_one_network_for_all_views(tmp_path):
    ws = write(tmp_path / "ws", network='share = "all"')
    assert next(iter(plan(ws))) == "finetune frontal + lateral"
    mvp.finetune(ws, progress=False)
    frontal, lateral = weights(ws, "frontal"), weights(ws, "lateral")
    assert all(np.array_equal(values, lateral[name]) for name, values in frontal.items())


def test_a_group_is_one_step_of_a_run(tmp_path, shared):
    ws = copied(shared[0], tmp_path)
    assert plan(ws)["finetune frontal + lateral"][0] is False
    edit(ws, "epochs = 1", "epochs = 2")
    assert plan(ws)["extract lateral"] == (True, "after finetune frontal + lateral")


@pytest.mark.slow
def test_a_run_plans_a_group_as_one_step_and_extracts_both(tmp_path, shared):
    ws = copied(shared[0], tmp_path)
    planned = plan(ws)
    assert planned["finetune frontal + lateral"] == (False, "nothing it depends on has changed")
    edit(ws, "epochs = 1", "epochs = 2")
    planned = plan(ws)
    assert planned["finetune frontal + lateral"][0]
    for view in ("frontal", "lateral"):
        assert planned[f"extract {view}"] == (True, "after finetune frontal + lateral")
    steps = {s.name: s.runs for s in mvp.run(ws, progress=False).steps}
    assert steps["extract lateral"]
    assert steps["evaluate"]


def test_another_share_is_another_network(tmp_path, shared):
    ws = copied(shared[0], tmp_path)
    edit(ws, 'share = "stages.1"', "")
    assert "the network" in plan(ws)["finetune frontal"][1]
    with pytest.raises(StaleError, match="the network changed"):
        mvp.extract(ws, progress=False)


def test_without_a_share_a_network_is_what_it_was_before_there_was_one(duplicated):
    """The setting is no part of the digest of networks that do not use it."""
    ws, _ = duplicated
    assert made(ws, "frontal")["seed"] == 5
    assert "the views that it is trained together with" not in made(ws, "frontal")["inputs"]


def test_a_copy_is_the_same_body_and_nothing_is_trained_for_it(duplicated):
    ws, done = duplicated
    assert list(done.views) == ["frontal", "lateral", "copy"]
    assert done.views["copy"].epochs_run == done.views["copy"].images_seen == 0
    assert "copy: not trained" in done.text
    assert [p.name for p in sorted(folder_of(ws, "copy").iterdir())] == [
        "provenance.json",
        "weights.safetensors",
    ]
    frontal, copy = weights(ws, "frontal"), weights(ws, "copy")
    for name, values in frontal.items():
        assert np.array_equal(values, copy[name]) == (not name.startswith("fc.")), name


def test_a_copy_is_no_tie(tmp_path, duplicated):
    ws = copied(duplicated[0], tmp_path)
    before = weights(ws, "copy")
    edit(ws, "epochs = 1", "epochs = 2")
    mvp.finetune(ws, ["frontal"], progress=False)
    after = weights(ws, "copy")
    assert all(np.array_equal(values, after[name]) for name, values in before.items())
    # It stays what it was, and is known to be of another network than that of today.
    assert "the network" in plan_finetune(Project(ws, progress=False), "copy")
    with pytest.raises(StaleError, match="the network changed"):
        mvp.extract(ws, ["copy"], progress=False)
    mvp.finetune(ws, ["copy"], progress=False)
    assert np.array_equal(weights(ws, "copy")[FIRST], weights(ws, "frontal")[FIRST])


def test_a_copy_has_seen_whom_its_source_has_seen(tmp_path, duplicated):
    ws = copied(duplicated[0], tmp_path)
    for part in ("patients", "studies", "offered"):
        assert made(ws, "copy")[part] == made(ws, "frontal")[part]
    mvp.extract(ws, ["copy"], progress=False)
    mvp.fit_head(ws, views=["copy"], name="before", progress=False)
    move(ws, in_part(ws, "stage1")[:3], "stage2")
    with pytest.raises(DataError, match="3 patients of the head rows trained this view's network"):
        mvp.fit_head(ws, views=["copy"], name="after", progress=False)


def test_a_network_that_goes_on_from_another_is_another(tmp_path, duplicated):
    ws = copied(duplicated[0], tmp_path)
    edit(ws, STILL, "")
    before = weights(ws, "frontal")
    done = mvp.finetune(ws, ["copy"], progress=False)
    # A new head first, as with published weights, then all of it.
    assert done.views["copy"].epochs_run == 6
    frontal, copy = weights(ws, "frontal"), weights(ws, "copy")
    assert all(np.array_equal(values, frontal[name]) for name, values in before.items())
    assert not np.array_equal(copy[FIRST], frontal[FIRST])


def test_whom_the_source_has_seen_is_asked_before_anything_is_trained(tmp_path, duplicated):
    ws = copied(duplicated[0], tmp_path)
    edit(ws, STILL, "")
    (ws / "patients.key").unlink()
    before = made(ws, "copy")
    with pytest.raises(StaleError, match="nobody can tell any more which patients"):
        mvp.finetune(ws, ["copy"], progress=False)
    assert made(ws, "copy") == before
    assert not (folder_of(ws, "copy") / "history.csv").exists()


def test_a_network_of_the_workspace_named_by_its_file_has_seen_whom_it_has_seen(
    tmp_path, duplicated, caplog
):
    ws = copied(duplicated[0], tmp_path)
    file = folder_of(ws, "frontal") / "weights.safetensors"
    # As it is for other views, which no training ever touches.
    edit(ws, "view:frontal", str(file))
    mvp.finetune(ws, ["copy"], progress=False)
    assert made(ws, "copy")["patients"] == made(ws, "frontal")["patients"]
    # With nothing trained at all, heads may learn from all rows, but not from these.
    edit(ws, "seed = 5", 'seed = 5\nprotocol = "frozen"')
    mvp.extract(ws, ["copy"], progress=False)
    with pytest.raises(DataError, match="this workspace has trained"):
        mvp.fit_head(ws, views=["copy"], progress=False)
    (ws / "patients.key").write_bytes(b"of another workspace")
    mvp.fit_head(ws, views=["copy"], progress=False)
    assert "was trained in another workspace" in caplog.text


def test_a_source_of_another_view_counts_although_no_row_is_shared(tmp_path):
    """It goes on with lateral films, whose patients are others than those of the frontal ones."""
    ws = write(
        tmp_path / "ws",
        views='[views.copy]\nsource = "lateral"\nnetwork = {weights = "view:frontal"}\n',
    )
    with (ws / "studies.csv").open() as stream:
        rows = list(csv.reader(stream))
    kept = [
        r
        for r in rows
        if r[2] not in ("frontal", "lateral") or (r[2] == "frontal") == (int(r[0][1:]) % 4 < 2)
    ]
    with (ws / "studies.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(kept)
    mvp.finetune(ws, progress=False)
    frontal, copy = (set(made(ws, v)["patients"]) for v in ("frontal", "copy"))
    own = set(made(ws, "lateral")["patients"])
    assert not frontal & own
    assert copy == frontal | own


@pytest.mark.slow
def test_a_copy_in_one_run_comes_after_its_source(tmp_path):
    first = COPY + STILL
    ws = write(tmp_path / "ws", frontal="", views=first)
    planned = mvp.run(ws, dry_run=True, progress=False).steps
    assert [s.name for s in planned][:3] == [
        "finetune frontal",
        "finetune lateral",
        "finetune copy",
    ]
    assert planned[2].reason == "after finetune frontal"
    assert plan_finetune(Project(ws, progress=False), "copy").startswith("the network of frontal")
    edit(ws, "[head]\n", '[head]\nviews = ["copy"]\n')
    steps = [(s.name, s.runs) for s in mvp.run(ws, progress=False).steps]
    assert steps == [
        ("finetune frontal", True),
        ("finetune copy", True),
        ("extract copy", True),
        ("fit-head logistic", True),
        ("evaluate", True),
    ]


def test_a_source_that_is_not_ready_is_named(tmp_path, refused, duplicated):
    ws = write(tmp_path / "new", views=COPY + STILL)
    code, line = refused("finetune", "-w", ws, "--view", "copy")
    assert code == 2
    assert "starts from that of view frontal, which is not trained yet" in line
    assert "mvp finetune --view frontal" in line
    old = copied(duplicated[0], tmp_path)
    edit(old, "epochs = 1", "epochs = 2")
    with pytest.raises(StaleError, match="frontal, which is not up to date"):
        mvp.finetune(old, ["copy"], progress=False)


def test_published_weights_as_they_are_have_seen_nobody(tmp_path, duplicated):
    source = folder_of(duplicated[0], "lateral") / "weights.safetensors"
    shutil.copy(source, tmp_path / "published.safetensors")
    line = 'network = {weights = "../published.safetensors"}\n' + STILL
    ws = write(tmp_path / "ws", frontal=line)
    done = mvp.finetune(ws, progress=False)
    assert done.views["frontal"].epochs_run == 0
    assert done.views["lateral"].epochs_run == 1
    assert made(ws, "frontal")["patients"] == made(ws, "frontal")["studies"] == []
    body = weights(ws, "frontal")
    assert np.array_equal(body[FIRST], load_file(source)[FIRST])
    assert mvp.finetune(ws, ["frontal"], progress=False).views["frontal"] is None
    # What the split says has no meaning for it.
    mvp.extract(ws, progress=False)
    move(ws, in_part(ws, "stage1")[:3], "stage2")
    mvp.fit_head(ws, views=["frontal"], progress=False)
    with pytest.raises(DataError, match="lateral"):
        mvp.fit_head(ws, progress=False)


def test_an_untrained_classifier_is_no_feature(tmp_path):
    line = 'network = {layer = "fc"}\n' + STILL
    ws = write(tmp_path / "ws", frontal=line)
    with pytest.raises(ConfigError, match="depends on the classifier, which nothing trains"):
        mvp.finetune(ws, ["frontal"], progress=False)
    edit(ws, 'layer = "fc"', 'layer = "auto"')
    mvp.finetune(ws, ["frontal"], progress=False)
    # The layer is no setting of training: the network is fresh, but not what it gives there.
    edit(ws, 'layer = "auto"', 'layer = ["stages.1", "fc"]')
    assert mvp.finetune(ws, ["frontal"], progress=False).views["frontal"] is None
    with pytest.raises(ConfigError, match="depends on the classifier, which nothing trains"):
        mvp.extract(ws, ["frontal"], progress=False)


def test_two_bodies_on_one_image_are_two(tmp_path):
    ws = write(tmp_path / "ws", views='[views.second]\nsource = "frontal"\n')
    mvp.finetune(ws, ["frontal", "second"], progress=False)
    assert made(ws, "frontal")["seed"] == 5
    assert made(ws, "second")["seed"] != 5
    one, two = weights(ws, "frontal"), weights(ws, "second")
    assert not np.array_equal(one[FIRST], two[FIRST])


def test_label_sets_on_one_image_are_trained_under_one_split(tmp_path):
    ws = write(
        tmp_path / "ws",
        frontal='labels = ["finding"]',
        views='[views.second]\nsource = "frontal"\nlabels = ["other"]\n',
    )
    mvp.finetune(ws, ["frontal"], progress=False)
    before = (ws / "split.csv").read_text()
    mvp.finetune(ws, ["second"], progress=False)
    mvp.extract(ws, ["frontal", "second"], progress=False)
    mvp.fit_head(ws, views=["frontal", "second"], progress=False)
    # A study that neither has seen comes to those of stage one.
    move(ws, in_part(ws, "stage2")[:1], "stage1")
    mvp.finetune(ws, ["second"], progress=False)
    mvp.extract(ws, ["second"], progress=False)
    with pytest.raises(StaleError, match=r"frontal and second .* different splits"):
        mvp.fit_head(ws, views=["frontal", "second"], progress=False)
    (ws / "split.csv").write_text(before)
    mvp.finetune(ws, ["second"], progress=False)
    mvp.extract(ws, ["second"], progress=False)
    mvp.fit_head(ws, views=["frontal", "second"], progress=False)


def test_a_study_without_labels_that_came_since_is_no_other_split(tmp_path):
    ws = write(
        tmp_path / "ws",
        frontal='labels = ["finding"]',
        views='[views.second]\nsource = "frontal"\nlabels = ["other"]\n',
    )
    mvp.finetune(ws, ["frontal"], progress=False)
    rows = list(csv.reader((ws / "studies.csv").open()))
    new = ["s100", "p100", "frontal", "new.png", "", ""]
    shutil.copy(ws / "data" / "frontal0.png", ws / "data" / "new.png")
    edit_pixel(ws / "data" / "new.png")
    with (ws / "studies.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([*rows, new])
    mvp.split(ws, progress=False)
    move(ws, ["s100"], "stage1")
    mvp.finetune(ws, ["second"], progress=False)
    mvp.extract(ws, ["frontal", "second"], progress=False)
    with pytest.raises(StaleError, match=r"run `mvp finetune --view frontal --view second`"):
        mvp.fit_head(ws, views=["frontal", "second"], progress=False)
    done = mvp.finetune(ws, ["frontal", "second"], progress=False)
    assert set(done.views.values()) == {None}
    mvp.fit_head(ws, views=["frontal", "second"], progress=False)


def test_blank_labels_are_no_other_rows(tmp_path):
    ws = write(
        tmp_path / "ws",
        frontal='labels = ["finding"]',
        views='[views.second]\nsource = "frontal"\nlabels = ["other"]\n',
    )
    rows = list(csv.reader((ws / "studies.csv").open()))
    for row in rows[1:20]:
        row[5] = ""
    with (ws / "studies.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    mvp.finetune(ws, ["frontal", "second"], progress=False)
    assert made(ws, "frontal")["offered"] == made(ws, "second")["offered"]
    assert made(ws, "frontal")["patients"] != made(ws, "second")["patients"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ({"frontal": 'network = {share = "stem"}'}, "no other view has the same share"),
        (
            {"network": 'share = "stem"', "frontal": "transform = {size = 32}"},
            "views frontal and lateral share layers ('stem') but differ in transform.size",
        ),
        (
            {"network": 'share = "stem"', "lateral": "training = {epochs = 3}"},
            "views frontal and lateral share layers ('stem') but differ in training.epochs",
        ),
        (
            {"network": 'share = "stem"', "lateral": 'network = {name = "resnet18"}'},
            "views frontal and lateral share layers ('stem') but differ in network.name",
        ),
        (
            {"network": 'share = "all"', "lateral": 'labels = ["finding"]'},
            "views frontal and lateral share layers ('all') but differ in labels",
        ),
        (
            {"network": 'share = "all"', "views": '[views.second]\nsource = "frontal"\n'},
            "views second and frontal would be one network on the same images",
        ),
        (
            {"network": 'share = "stem"', "frontal": STILL, "lateral": STILL},
            'has no meaning with training.freeze = "all"',
        ),
        ({"frontal": 'network = {weights = "view:frontal"}'}, "names the view itself"),
        ({"frontal": 'network = {weights = "view:chest"}'}, "there are: lateral"),
        (
            {
                "frontal": 'network = {weights = "view:lateral"}',
                "lateral": 'network = {weights = "view:frontal"}',
            },
            "the networks of frontal and lateral start from each other",
        ),
        (
            {"lateral": 'network = {weights = "view:frontal", name = "resnet18"}'},
            "the two differ in network.name ('small' and 'resnet18')",
        ),
        (
            {"lateral": 'network = {weights = "view:frontal", weights_order = "by-position"}'},
            'has no meaning with weights_order = "by-position"',
        ),
    ],
)
def test_networks_that_cannot_be_shared_or_copied_are_refused(lines, said):
    toml = TOML
    for place, line in lines.items():
        toml = toml.replace(f"#{place}", line) if place != "views" else toml + line
    with pytest.raises(ConfigError) as error:
        parse_config(toml, Path("mvp.toml"))
    assert said in str(error.value)


@pytest.mark.parametrize(
    "lines",
    [{"network": 'share = "stem"'}, {"lateral": 'network = {weights = "view:frontal"}'}],
)
def test_frozen_networks_are_neither_shared_nor_copied(lines):
    toml = 'protocol = "frozen"\n' + TOML
    for place, line in lines.items():
        toml = toml.replace(f"#{place}", line)
    with pytest.raises(ConfigError, match='has no meaning with protocol = "frozen"'):
        parse_config(toml, Path("mvp.toml"))


def test_a_layer_that_is_not_there_is_one_line(tmp_path, refused):
    ws = write(tmp_path / "ws", network='share = "stages.9"')
    code, line = refused("finetune", "-w", ws)
    assert code == 2
    assert "stages.9" in line


@pytest.mark.slow
def test_groups_and_copies_have_their_folds(tmp_path):
    line = 'network = {weights = "view:frontal", share = "none"}\n' + STILL
    views = f'[views.copy]\nsource = "frontal"\n{line}'
    ws = write(tmp_path / "ws", network='share = "stages.1"', views=views)
    done = mvp.finetune(ws, folds=2, progress=False)
    assert list(done.views) == [
        f"{view} fold-{fold}" for fold in (0, 1) for view in ("frontal", "lateral", "copy")
    ]
    project = Project(ws, progress=False)
    for fold in (0, 1):
        held = [s.replace("s", "p") for s, f in project.split.folds.items() if f == fold]
        one, other, copy = (
            read_provenance(ws / "stage1" / view / f"fold-{fold}")
            for view in ("frontal", "lateral", "copy")
        )
        assert one["patients"] == other["patients"] == copy["patients"]
        assert not set(patient_hashes(project.workspace, held)) & set(copy["patients"])
    assert not (ws / "stage1" / "copy" / "all").exists()


def test_frozen_networks_are_asked_for_no_split(tmp_path, duplicated):
    ws = copied(duplicated[0], tmp_path)
    move(ws, in_part(ws, "stage2")[:1], "stage1")
    edit(ws, STILL, "")
    edit(ws, 'network = {weights = "view:frontal"}\n', 'network = {layer = "stages.1"}\n')
    mvp.finetune(ws, ["copy"], progress=False)
    edit(ws, "seed = 5", 'seed = 5\nprotocol = "frozen"')
    mvp.extract(ws, ["frontal", "copy"], progress=False)
    mvp.fit_head(ws, views=["frontal", "copy"], progress=False)
