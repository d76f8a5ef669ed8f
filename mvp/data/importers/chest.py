"""What the importers of chest films share: two views, labels of CheXpert, lists of findings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mvp.config import nearest
from mvp.data.importers.base import LabelDraft, ViewDraft
from mvp.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

# The fourteen of Irvin et al. 2019, in the order of CheXpert's table.
CHEXPERT_LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
# Their names in a table of projections, whatever their case.
FRONTAL = ("PA", "AP")
LATERAL = ("LATERAL", "LL")
CHEXPERT_COMMENT = """Labels: 1 is found, 0 denied, -1 uncertain, blank not mentioned in the report.
An uncertain label is unknown here. A blank one too: the report does not say.
Many read blank as absent; then set blank = "negative" with the label."""
SHARE = 0.01
FINDINGS = "findings"


def two_views(frontal: Sequence[str], lateral: Sequence[str]) -> dict[str, ViewDraft]:
    """The views of a chest study by the names that a table has for them; none without names."""
    return {
        name: ViewDraft(aliases=[n for n in names if n.casefold() != name])
        for name, names in (("frontal", frontal), ("lateral", lateral))
        if names
    }


def sort_out(views: pd.Series, known: Sequence[str], what: str) -> tuple[pd.Series, dict[str, int]]:
    """(row,) whether a row's view is known, and how many of each other view are left out.

    Args:
        views: (row,) as the table writes them.
        known: names, whatever their case.
        what: the column, as users know it.
    """
    keep = views.str.casefold().isin([name.casefold() for name in known])
    others = views[~keep].value_counts()
    return keep, {
        f"of {what} {view!r}" if view else f"with a blank {what}": int(n)
        for view, n in others.items()
    }


def place_of(root: Path, candidates: Sequence[Sequence[str]]) -> int:
    """Which way of laying out the images is found under the root; 0 where none is.

    Args:
        root: where the images may lie, or not yet.
        candidates: for each way, paths of the same few images.
    """
    for number, paths in enumerate(candidates):
        # A name that no disk can have is of no file.
        with suppress(OSError, ValueError):
            if any((root / path).is_file() for path in paths):
                return number
    return 0


def chexpert_labels() -> dict[str, LabelDraft]:
    """The labels of CheXpert's labeller: unknown stays unknown."""
    labels = {
        name: LabelDraft(name, {"uncertain": "unknown"}, {"blank": "negative"})
        for name in CHEXPERT_LABELS
    }
    labels["No Finding"] = LabelDraft("No Finding")
    return labels


def tell_no_finding(labels: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The labels with 0.0 for `No Finding` where another finding is named, and a note of it.

    The labeller writes only 1.0 or a blank there, so a blank says either that something was found
    or that nothing is known. Devices are no finding.

    Args:
        labels: (row, label) with the columns `CHEXPERT_LABELS`.
    """
    found = labels[list(CHEXPERT_LABELS[1:-1])].isin(["1.0", "-1.0", "1", "-1"]).any(axis=1)
    denied = found & (labels["No Finding"] == "")
    told = labels.assign(**{"No Finding": labels["No Finding"].mask(denied, "0.0")})
    return told, (
        f"`No Finding` is blank in {int(denied.sum())} rows that name a positive or uncertain "
        "finding: 0.0 is written there"
    )


def finding_labels(
    frame: pd.DataFrame, wanted: Sequence[str], *, share: float = SHARE, skip: Sequence[str] = ()
) -> tuple[dict[str, LabelDraft], str]:
    """Labels that read the column `findings`, joined by `|`, and what was chosen, in words.

    Args:
        frame: with `study` and `findings`; a blank cell says nothing about any finding.
        wanted: names asked for; none takes those of at least `share` of the known studies.
        share: of the studies whose findings are known.
        skip: names that are no label by themselves.

    Raises:
        ConfigError: a wanted finding does not occur; the nearest is named.
    """
    known = frame.loc[frame[FINDINGS] != "", ["study", FINDINGS]].drop_duplicates()
    each = known.assign(finding=known[FINDINGS].str.split("|")).explode("finding")
    counts = each.drop_duplicates(["study", "finding"])["finding"].value_counts()
    counts = counts.drop([name for name in skip if name in counts.index])
    by_name = {str(name).casefold(): str(name) for name in counts.index}
    for name in wanted:
        if name.strip().casefold() not in by_name:
            raise ConfigError(
                f"no study has the finding {name!r}" + nearest(name, list(counts.index)),
                remedy="correct --finding",
            )
    least = share * known["study"].nunique()
    names = [by_name[n.strip().casefold()] for n in wanted] or [
        str(name) for name, count in counts.items() if count >= least
    ]
    labels = {
        name: LabelDraft(FINDINGS, {"positive": [name], "other": "negative", "separator": "|"})
        for name in dict.fromkeys(names)
    }
    why = "as asked for" if wanted else f"those of at least {share:.0%} of the studies"
    if not wanted and not share:
        why = "all of them"
    return labels, f"labels: {len(labels)} of {len(counts)} findings, {why}"


def without_prefix(paths: pd.Series, root: Path) -> tuple[pd.Series, str]:
    """Paths without the first folder where the root is that folder already, and a note of it.

    `CheXpert-v1.0-small/train/…` under the root `…/CheXpert-v1.0-small` is `train/…`.
    """
    name = root.resolve().name
    if not (paths.str.startswith(f"{name}/")).all() or (root / name).exists():
        return paths, ""
    note = f"the paths begin with {name}/, which is the root itself: taken off"
    return paths.str.slice(len(name) + 1), note
