"""`mvp init`: look at a table, write a commented `mvp.toml`, say what was guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp.config import parse_config
from mvp.data.tables.guess import Guess, guess
from mvp.data.tables.table import read_table
from mvp.errors import ConfigError
from mvp.files import write_bytes
from mvp.pipeline import toml_text
from mvp.pipeline.toml_text import relative, setting
from mvp.pipeline.workspace import Workspace


@dataclass
class InitOutcome:
    """What was written, and what was guessed."""

    config: str
    table: str
    encoding: str
    separator: str
    rows: int
    guesses: list[str]
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return {k: v for k, v in self.__dict__.items() if k != "exit_code"}

    @property
    def text(self) -> str:
        """For a person."""
        how = f"{self.encoding}, separator {self.separator!r}" if self.separator else self.encoding
        return "\n".join(
            [
                f"{self.table}: {self.rows} rows, read as {how}",
                *(f"  guessed: {line}" for line in self.guesses),
                "  taken for films of the chest: for other images set another [augment] preset, "
                '"mammo", "mri", "photo" or "none"',
                f"wrote {self.config}: read it through, then `mvp check`",
            ]
        )


def run_init(
    table: str | Path,
    workspace: str | Path = ".",
    *,
    root: str | Path | None = None,
    study: Sequence[str] = (),
    patient: Sequence[str] = (),
    view: str = "",
    path: str = "",
    force: bool = False,
) -> InitOutcome:
    """Write a starting `mvp.toml` for a table with one row per image.

    Args:
        table: CSV, TSV or Parquet.
        workspace: folder of the new `mvp.toml`.
        root: where the table's paths start; default: the table's folder.
        study: columns of the study id; several are joined.
        patient: columns of the patient id.
        view: column that names the view.
        path: column of the image files.
        force: overwrite an `mvp.toml`.
    """
    place = Workspace(Path(workspace))
    if place.config.exists() and not force:
        raise ConfigError(
            "there is an mvp.toml already",
            path=place.config,
            remedy="add --force to overwrite it, or name another --workspace",
        )
    source = read_table(Path(table))
    found = guess(source, study=study, patient=patient, view=view, path=path)
    base = Path(root) if root is not None else Path(table).parent
    text = _toml(found, relative(Path(table), place.folder), relative(base, place.folder))
    parse_config(text, place.config)
    write_bytes(place.config, text.encode())
    return InitOutcome(
        config=str(place.config),
        table=str(table),
        encoding=source.encoding,
        separator=source.separator,
        rows=len(source.frame),
        guesses=found.notes,
    )


def _columns(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values


def _toml(found: Guess, table: str, root: str) -> str:
    lines = [
        *toml_text.top(),
        "",
        "[data]",
        setting("table", table),
        setting("root", root, "where the paths in the table start"),
        setting("study", _columns(found.study), "several columns are joined to one id"),
        setting("patient", _columns(found.patient), "never in two parts of the split"),
        setting("view", found.view),
        setting("path", found.path),
    ]
    if found.split:
        split = setting("split", found.split, "train, test, or a part's name; blank: mvp deals")
        lines.append(f"# {split}")
    for name, aliases in found.views.items():
        lines += toml_text.table(["views", name], {"aliases": aliases})
    lines += [
        "",
        "# Labels: `positive` and `negative` list values, blank and -1 are unknown unless `blank`",
        "# or `uncertain` says otherwise. A multi-class label has kind and classes.",
    ]
    for column in found.binary:
        lines += toml_text.table(["labels", column], {"column": column})
    for name, values in found.findings.items():
        settings = {"column": found.finding_column, "positive": values, "other": "negative"}
        if found.separator:
            settings["separator"] = found.separator
        why = {"other": "any other finding", "separator": "a cell may hold several"}
        lines += toml_text.table(["labels", name], settings, beside=why)
    return "\n".join([*lines, *toml_text.common(), ""])
