"""`mvp import`: a public data set's own tables become a manifest and a starting `mvp.toml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp.config import parse_config
from mvp.data.importers import Draft, ImportRequest, read_draft
from mvp.data.importers.base import OPTIONAL, REQUIRED
from mvp.errors import ConfigError
from mvp.files import replacing, write_bytes
from mvp.pipeline import toml_text
from mvp.pipeline.toml_text import relative, setting, table
from mvp.pipeline.workspace import Workspace

# What a table is for the reader of mvp.toml; said of every kind.
_LABELS = "What a blank or uncertain cell means is a decision: it stands with each label."


@dataclass
class ImportOutcome:
    """What was written, how much of the source it holds, and what was decided.

    `rows` = `images` + the sum of `left_out`.
    """

    kind: str
    source: str
    config: str
    manifest: str
    rows: int
    images: int
    left_out: dict[str, int]
    studies: int
    patients: int
    views: dict[str, int]
    notes: list[str]
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {k: v for k, v in self.__dict__.items() if k != "exit_code"}

    @property
    def text(self) -> str:
        """For a person."""
        views = ", ".join(f"{name} {n}" for name, n in self.views.items())
        return "\n".join(
            [
                f"{self.source}: {self.rows} images listed, {self.images} kept",
                *(f"  left out: {n} {why}" for why, n in self.left_out.items()),
                f"{self.patients} patients, {self.studies} studies; {views}",
                *(f"  {note}" for note in self.notes),
                f"wrote {self.manifest}",
                f"wrote {self.config}: read it through, then `mvp check`",
            ]
        )


def run_import(
    kind: str,
    source: str | Path,
    out: str | Path = ".",
    *,
    root: str | Path | None = None,
    labels: str | Path | None = None,
    metadata: str | Path | None = None,
    split: str | Path | None = None,
    pattern: str | None = None,
    findings: Sequence[str] = (),
    force: bool = False,
) -> ImportOutcome:
    """Write `manifest.csv` and a starting `mvp.toml` for a public data set.

    Only tables and file names are read; the images need not be there yet.

    Args:
        kind: the data set, as `mvp import --help` lists them.
        source: its table, or its folder; docs/importing.md says which.
        out: folder of the new workspace.
        root: where the paths of the images start.
        labels: a table of labels that stands apart.
        metadata: a table on images that stands apart.
        split: a table of splits that stands apart.
        pattern: of file names, for `folder`.
        findings: the labels wanted; default: those frequent enough to learn from.
        force: overwrite `manifest.csv` and `mvp.toml`.
    """
    place = Workspace(Path(out))
    given = [Path(p) for p in (source, labels, metadata, split) if p is not None]
    for target in (place.config, place.manifest):
        if any(p.resolve() == target.resolve() for p in given):
            raise ConfigError(
                "the import would overwrite what it reads", path=target, remedy="name another --out"
            )
        if target.exists() and not force:
            raise ConfigError(
                f"there is {'an' if target == place.config else 'a'} {target.name} already",
                path=target,
                remedy="add --force to overwrite it, or name another --out",
            )
    draft = read_draft(
        kind,
        ImportRequest(
            source=Path(source),
            root=None if root is None else Path(root),
            labels=None if labels is None else Path(labels),
            metadata=None if metadata is None else Path(metadata),
            split=None if split is None else Path(split),
            pattern=pattern,
            findings=tuple(findings),
        ),
    )
    text = _toml(kind, draft, place)
    parse_config(text, place.config)
    with replacing(place.manifest) as partial:
        draft.frame.to_csv(partial, index=False, lineterminator="\n", encoding="utf-8")
    write_bytes(place.config, text.encode())
    return _outcome(kind, Path(source), draft, place)


def _outcome(kind: str, source: Path, draft: Draft, place: Workspace) -> ImportOutcome:
    return ImportOutcome(
        kind=kind,
        source=str(source),
        config=str(place.config),
        manifest=str(place.manifest),
        rows=draft.rows,
        images=len(draft.frame),
        left_out=draft.left_out,
        studies=int(draft.frame["study"].nunique()),
        patients=int(draft.frame["patient"].nunique()),
        views={n: _images(draft, n) for n, v in draft.views.items() if v.kind == "image"},
        notes=draft.notes,
    )


def _images(draft: Draft, name: str) -> int:
    """How many rows are of a view, by its aliases and its side."""
    view = draft.views[name]
    known = {alias.casefold() for alias in (name, *view.aliases)}
    mine = draft.frame["view"].str.casefold().isin(known)
    if view.side is not None:
        mine &= draft.frame["laterality"].str.casefold().str.startswith(view.side[0])
    return int(mine.sum())


def _optional(draft: Draft) -> list[str]:
    """Columns that a view asks for; one that none does stands as a comment."""
    views = draft.views.values()
    needed = {
        "laterality": any(view.side is not None for view in views),
        "order": any(view.further.get("images") == "newest" for view in views),
        "split": True,
    }
    why = {"laterality": "for views with side", "order": 'for views with images = "newest"'}
    return [
        setting(name, name) if needed[name] else f"# {setting(name, name, why[name])}"
        for name in OPTIONAL
        if name in draft.frame
    ]


def _toml(kind: str, draft: Draft, place: Workspace) -> str:
    settings = dict(draft.settings)
    protocol = settings.pop("protocol", "holdout")
    lines = [
        *toml_text.top(protocol),
        "",
        f"# Written by `mvp import {kind}`; docs/importing.md says what its tables hold.",
        *toml_text.remark("\n".join(draft.notes)),
        "[data]",
        setting("table", relative(place.manifest, place.folder)),
        setting("root", relative(draft.root, place.folder), "where the paths in the table start"),
        *(setting(name, name) for name in REQUIRED),
        *_optional(draft),
        *(setting(name, item) for name, item in draft.data.items()),
    ]
    for name, view in draft.views.items():
        lines += table(["views", name], view.settings(), comment=view.comment)
    lines += ["", *toml_text.remark(draft.comments.get("labels", _LABELS))]
    for name, label in draft.labels.items():
        lines += table(
            ["labels", name],
            {"column": label.column, **label.further},
            comment=label.comment,
            hints=label.hints,
        )
    return "\n".join([*lines, *toml_text.common(settings), ""])
