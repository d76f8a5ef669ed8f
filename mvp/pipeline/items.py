"""What the studies hold of a view: files, the texts of cells, or rows of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mvp.config import ResolvedView
from mvp.data.reading.inventory import FileRecord
from mvp.data.reading.texts import normalised, text_digest
from mvp.data.table_encoder import Values, parse_cells, values_digest
from mvp.data.tables.manifest import Manifest
from mvp.pipeline.project import Project
from mvp.pipeline.recording import Reject

_UNKNOWN = "not in the cache"


@dataclass(frozen=True)
class Item:
    """One input of one study.

    Attributes:
        study: index of the study.
        record: what it is; None where its path is refused or nobody has looked at it.
        error: why it cannot be used, or "".
        path: as the table writes it; "" for cells.
        line: of the table; "" for cells.
    """

    study: int
    record: FileRecord | None
    error: str
    path: str = ""
    line: str = ""


def view_items(
    project: Project, manifest: Manifest, view: ResolvedView, records: Mapping[str, FileRecord]
) -> list[Item]:
    """The inputs of a view, study by study; several of one study where it has several files.

    Args:
        project: the workspace.
        manifest: the studies.
        view: not an imported one.
        records: what the files are.
    """
    if view.kind == "table":
        return _value_items(project, manifest, view)
    if view.columns:
        texts = _texts(manifest, view)
        return [Item(i, _cell_record(text_digest(t), len(t)), "") for i, t in texts.items()]
    images = project.view_images(manifest, view)
    items = []
    for study, file, path, line, refused in zip(
        *(images[column] for column in ("study", "file", "path", "line", "error")), strict=True
    ):
        record = None if refused else records.get(file)
        error = refused or _unfit(record, view)
        items.append(Item(int(study), record, error, str(path), str(line)))
    return items


def cell_texts(manifest: Manifest, view: ResolvedView) -> dict[str, str]:
    """Digest to text of a text view's cells; none where its texts are files."""
    if view.kind != "text" or not view.columns:
        return {}
    return {text_digest(text): text for text in _texts(manifest, view).values()}


def row_values(project: Project, manifest: Manifest, view: ResolvedView) -> dict[str, Values]:
    """Digest to values of a table view's rows."""
    settings = project.config.views[view.name]
    found = {}
    for cells in manifest.cells[view.name]:
        values, wrong = parse_cells(settings, cells)
        if not wrong:
            found[values_digest(values)] = values
    return found


def reject_items(
    manifest: Manifest, view: str, items: Sequence[Item], reasons: Sequence[str]
) -> list[Reject]:
    """Rows of the reject table: those items whose reason is not empty."""
    return [
        Reject(str(manifest.studies[item.study]), view, item.path, item.line, reason)
        for item, reason in zip(items, reasons, strict=True)
        if reason
    ]


def reject_rows(manifest: Manifest) -> list[Reject]:
    """Rows of the reject table: those of the table that belong to no study."""
    return [Reject(row.study, "", "", str(row.line), row.reason) for row in manifest.refused]


def _value_items(project: Project, manifest: Manifest, view: ResolvedView) -> list[Item]:
    settings = project.config.views[view.name]
    items = []
    for study, cells in enumerate(manifest.cells[view.name]):
        values, wrong = parse_cells(settings, cells)
        if wrong:
            items.append(Item(study, None, wrong))
        elif any(value is not None for value in values):
            items.append(Item(study, _cell_record(values_digest(values), len(values)), ""))
    return items


def _texts(manifest: Manifest, view: ResolvedView) -> dict[int, str]:
    """Study to text, where there is one."""
    cells = (normalised(str(row[0])) for row in manifest.cells[view.name])
    return {study: text for study, text in enumerate(cells) if text}


def _cell_record(digest: str, length: int) -> FileRecord:
    return FileRecord("", digest, digest, "", (length,), 8, 1)


def _unfit(record: FileRecord | None, view: ResolvedView) -> str:
    if record is None:
        return _UNKNOWN
    if not record.pixels:
        return record.error or "the file cannot be read"
    if (len(record.shape) == 1) != (view.kind == "text"):
        what = "a text" if len(record.shape) == 1 else "an image"
        return f'the file is {what}; the view is of kind = "{view.kind}"'
    return ""
