"""A workspace opened: settings, manifest, files, split. What every verb starts from."""

from __future__ import annotations

import csv
import io
import logging
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mvp.config import Config, ResolvedView, load_config
from mvp.data.inventory import FileRecord, Inventory
from mvp.data.manifest import Manifest, load_manifest
from mvp.data.readers import Limits
from mvp.data.splits import PARTS, Split, make_split
from mvp.errors import ConfigError, DataError
from mvp.files import write_bytes
from mvp.networks import weights_file
from mvp.pipeline.recording import Reject
from mvp.pipeline.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import torch

log = logging.getLogger("mvp")


class Project:
    """Opens what lies in a workspace, each thing once and only when it is asked for.

    Args:
        folder: the workspace.
        progress: show bars.
    """

    def __init__(self, folder: str | Path, *, progress: bool = True) -> None:
        self.workspace = Workspace(Path(folder))
        # A user's own `module:factory` may lie beside mvp.toml; last, so that it shadows nothing.
        if str(self.workspace.folder.resolve()) not in sys.path:
            sys.path.append(str(self.workspace.folder.resolve()))
        self.progress = progress
        self.config: Config = load_config(self.workspace.config)

    def view(self, name: str) -> ResolvedView:
        """A view's settings; a weights file is looked for from the workspace."""
        view = self.config.view(name)
        file = weights_file(view.network)
        if file is None or file.is_absolute():
            return view
        anchored = str(self.workspace.folder / file)
        network = view.network.model_copy(update={"weights": anchored})
        return view.model_copy(update={"network": network})

    @cached_property
    def manifest(self) -> Manifest:
        """The studies of the table that `mvp.toml` names; what is wrong with them is logged."""
        manifest = load_manifest(self.config, self.workspace.folder)
        for problem in manifest.problems:
            log.warning(problem.text)
        return manifest

    def quiet_manifest(self) -> Manifest:
        """The same, for a verb that reports its problems itself."""
        if "manifest" not in self.__dict__:
            self.__dict__["manifest"] = load_manifest(self.config, self.workspace.folder)
        return self.manifest

    def scoring_manifest(self, table: Path, root: Path | None) -> Manifest:
        """The studies of a new table, without labels."""
        manifest = load_manifest(
            self.config, self.workspace.folder, table=table, root=root, scoring=True
        )
        for problem in manifest.problems:
            log.warning(problem.text)
        return manifest

    @cached_property
    def inventory(self) -> Inventory:
        """What the files are."""
        return Inventory(self.workspace.inventory)

    @cached_property
    def workers(self) -> int:
        """Decoding threads."""
        return self.config.workers or min(8, os.cpu_count() or 1)

    def limits(self, root: Path | None = None) -> Limits:
        """What one image file may cost, and where it must lie."""
        data = self.config.data
        base = root if root is not None else self.workspace.folder / data.root
        return Limits(
            max_pixels=data.max_pixels,
            max_bytes=data.max_bytes,
            root=None if data.allow_outside_root else str(base),
            max_volume_pixels=data.max_volume_pixels,
        )

    @cached_property
    def device(self) -> torch.device:
        """The device that networks run on.

        Raises:
            ConfigError: the device that the settings name is not there.
        """
        import torch

        if self.config.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.config.device)
            torch.empty(1, device=device)
        except Exception as error:  # noqa: BLE001 - backends raise anything
            raise ConfigError(
                f"the device {self.config.device!r} cannot be used",
                cause=str(error).splitlines()[0],
                remedy='set device = "auto" or "cpu" in mvp.toml',
            ) from None
        return device

    @property
    def sources(self) -> list[str]:
        """Names of the views that images belong to."""
        return [name for name, view in self.config.views.items() if view.own_files]

    def records(self, images: pd.DataFrame, root: Path | None = None) -> dict[str, FileRecord]:
        """A record for every file of some images, decoded once and remembered."""
        files = images.loc[images["error"] == "", "file"]
        return self.inventory.scan(
            files,
            self.limits(root),
            workers=self.workers,
            progress=self.progress and len(files) > 2000,
        )

    def view_images(self, manifest: Manifest, view: ResolvedView) -> pd.DataFrame:
        """The images that a view looks at."""
        return manifest.images_of(view.source, view.images)

    @cached_property
    def contents(self) -> dict[str, FileRecord]:
        """A record for every file of the workspace's own table."""
        return self.records(self.manifest.images)

    def deal(self, *, files: bool = True) -> Split:
        """The split as it stands, with studies that are new dealt to parts; nothing is written.

        Args:
            files: also keep studies together that share an image's pixels, which reads the files.
        """
        previous = self._read_split()
        manifest = self.manifest
        content = None
        if files:
            content = self.content()
        return make_split(
            manifest.studies,
            manifest.patients,
            manifest.labels,
            manifest.presence(self.sources),
            self.config.split,
            fixed=manifest.fixed_parts,
            content=content,
            previous=previous,
        )

    def content(self) -> list[list[str]]:
        """For each study the digests of its images' pixels; unreadable ones are left out."""
        images = self.manifest.images
        records = self.contents
        content: list[list[str]] = [[] for _ in range(len(self.manifest))]
        for study, file in zip(images["study"], images["file"], strict=True):
            record = records.get(file)
            if record is not None and record.pixels:
                content[study].append(record.pixels)
        return content

    @cached_property
    def split(self) -> Split:
        """The split, dealt once and kept in `split.csv`."""
        previous = self._read_split()
        split = self.deal()
        if previous is None or dict(previous.parts) != dict(split.parts):
            kept = {} if previous is None else dict(previous.parts)
            self._write_split(Split({**kept, **split.parts}))
            counts = ", ".join(f"{part} {n}" for part, n in split.counts().items())
            log.info("split by patient: %s", counts)
        return split

    def _read_split(self) -> Split | None:
        path = self.workspace.split
        if not path.exists():
            return None
        parts: dict[str, str] = {}
        wrong = ""
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                rows = list(csv.reader(stream))
        except (csv.Error, UnicodeDecodeError) as error:
            rows, wrong = [[]], str(error)
        if not wrong and rows[:1] != [["study", "part"]]:
            wrong = "its first line is not study,part"
        for line, row in enumerate(rows[1:], start=2):
            if len(row) != 2 or row[1] not in PARTS:
                wrong = wrong or f"line {line} does not name a study and a part"
            elif parts.setdefault(row[0], row[1]) != row[1]:
                wrong = wrong or f"line {line} gives study {row[0]} a second part"
        if wrong:
            raise DataError(
                "split.csv cannot be used",
                path=path,
                cause=f"{wrong} (parts are {', '.join(PARTS)})",
                remedy="restore it; or delete it to deal anew, which makes networks stale",
            )
        return Split(parts)

    def _write_split(self, split: Split) -> None:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["study", "part"])
        writer.writerows(split.parts.items())
        write_bytes(self.workspace.split, text.getvalue().encode())

    def reject_rows(
        self, manifest: Manifest, images: pd.DataFrame, view: str, reasons: Sequence[str]
    ) -> list[Reject]:
        """Rows of the reject table: those images whose reason is not empty."""
        return [
            Reject(str(manifest.studies[study]), view, path, str(line), reason)
            for study, path, line, reason in zip(
                images["study"], images["path"], images["line"], reasons, strict=True
            )
            if reason
        ]


def label_indices(manifest: Manifest, names: Sequence[str]) -> np.ndarray:
    """Columns of the named labels among the manifest's."""
    order = [target.name for target in manifest.labels.targets]
    return np.array([order.index(name) for name in names], dtype=np.int64)
