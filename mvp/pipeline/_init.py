"""`mvp init`: look at a table, write a commented `mvp.toml`, say what was guessed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp.config import parse_config
from mvp.data.guess import Guess, guess
from mvp.data.tables import read_table
from mvp.errors import ConfigError
from mvp.files import write_bytes
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
    text = _toml(found, _relative(Path(table), place.folder), _relative(base, place.folder))
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


def _relative(path: Path, folder: Path) -> str:
    try:
        text = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # another drive
        return path.resolve().as_posix()
    return Path(text).as_posix()


def _text(value: str) -> str:
    # A JSON string is a TOML basic string, but for DEL and lone surrogates.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(v) for v in values) + "]"


def _columns(values: Sequence[str]) -> str:
    return _text(values[0]) if len(values) == 1 else _list(values)


def _toml(found: Guess, table: str, root: str) -> str:
    lines = [
        "# What mvp is to do. docs/configuration.md lists every setting and its default.",
        "",
        "# How stage two is kept honest:",
        '#   "holdout"  networks are fine-tuned on one part of the patients, heads on another;',
        '#   "frozen"   published weights are used as they are, heads may use all training rows.',
        'protocol = "holdout"',
        "seed = 0",
        "",
        "[data]",
        f"table = {_text(table)}",
        f"root = {_text(root)}    # where the paths in the table start",
        f"study = {_columns(found.study)}    # several columns are joined to one id",
        f"patient = {_columns(found.patient)}    # never in two parts of the split",
        f"view = {_text(found.view)}",
        f"path = {_text(found.path)}",
    ]
    if found.split:
        lines.append(
            f"# split = {_text(found.split)}    # train, test, or a part's name; blank: mvp deals"
        )
    for name, aliases in found.views.items():
        lines += ["", f"[views.{name}]", f"aliases = {_list(aliases)}"]
    lines += [
        "",
        "# Labels: `positive` and `negative` list values, blank and -1 are unknown unless `blank`",
        "# or `uncertain` says otherwise. A multi-class label has kind and classes.",
    ]
    for column in found.binary:
        lines += ["", f"[labels.{_text(column)}]"]
        lines += [f"column = {_text(column)}"]
    for name, values in found.findings.items():
        lines += [
            "",
            f"[labels.{_text(name)}]",
            f"column = {_text(found.finding_column)}",
            f"positive = {_list(values)}",
            'other = "negative"    # any other finding',
        ]
        if found.separator:
            lines.append(f"separator = {_text(found.separator)}    # a cell may hold several")
    lines += [
        "",
        "[split]    # by patient; what is left goes to stage one",
        "test = 0.25",
        "stage2 = 0.3",
        "",
        "[network]    # a torchvision classifier, timm:NAME, or package.module:factory",
        'name = "resnet18"',
        'weights = "DEFAULT"    # published weights, a file, or "none"',
        "",
        "[transform]",
        "size = 224",
        "",
        "[training]",
        "epochs = 20",
        "learning_rate = 1e-4",
        "head_learning_rate = 1e-3",
        "",
        "[head]",
        'learner = "mlp"    # or xgboost, logistic, a scikit-learn class by its dotted path',
        "",
    ]
    return "\n".join(lines)
