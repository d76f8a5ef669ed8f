"""A workspace opened: settings, manifest, files, split. What every verb starts from."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mvp.config import Config, ResolvedView, load_config, weights_file
from mvp.data.reading.inventory import FileRecord, Inventory
from mvp.data.reading.readers import Limits
from mvp.data.splits.file import read_split
from mvp.data.splits.near import shows_something
from mvp.data.splits.split import Split
from mvp.data.tables.manifest import Manifest, load_manifest
from mvp.errors import ConfigError
from mvp.pipeline.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import torch

log = logging.getLogger("mvp")
MANY_FILES = 2000  # looking at fewer needs no bar


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

    @cached_property
    def inventory(self) -> Inventory:
        """What the files are."""
        return Inventory(self.workspace.inventory)

    @cached_property
    def workers(self) -> int:
        """Decoding threads."""
        # One more than processors: each waits for its decoder while another prepares.
        return self.config.workers or min(16, 1 + (os.cpu_count() or 1))

    def limits(self, root: Path | None = None) -> Limits:
        """What one image file may cost, and where it must lie."""
        data = self.config.data
        base = root if root is not None else self.workspace.folder / data.root
        return Limits(
            max_pixels=data.max_pixels,
            max_bytes=data.max_bytes,
            root=None if data.allow_outside_root else str(base),
            max_volume_pixels=data.max_volume_pixels,
            max_seconds=data.max_seconds,
            allow_deflated=data.allow_deflated,
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
            progress=self.progress and len(files) > MANY_FILES,
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
        from mvp.pipeline.splitting import deal_split

        return deal_split(self, read_split(self.workspace.split), files=files)

    def content(self) -> list[list[str]]:
        """For each study the digests of its images' pixels; unreadable ones are left out.

        So are files of no picture: texts may be alike without a leak, and an image of one value
        is everybody's.
        """
        images = self.manifest.images
        records = self.contents
        content: list[list[str]] = [[] for _ in range(len(self.manifest))]
        for study, file in zip(images["study"], images["file"], strict=True):
            record = records.get(file)
            if record is not None and record.pixels and shows_something(record.look):
                content[study].append(record.pixels)
        return content

    def deal_for_now(self) -> None:
        """Take the split as it would be dealt, without writing it, for a verb that only looks."""
        self.take_split(self.deal())

    def take_split(self, split: Split) -> None:
        """Take a split as the workspace's, for a verb that has just dealt and kept it."""
        self.__dict__["split"] = split

    @cached_property
    def split(self) -> Split:
        """The split, dealt once and kept in `split.csv`."""
        from mvp.pipeline.splitting import deal_split, keep_split

        previous = read_split(self.workspace.split)
        split = deal_split(self, previous)
        if keep_split(self, split, previous):
            counts = ", ".join(f"{part} {n}" for part, n in split.counts().items())
            log.info("split by patient: %s", counts)
        return split


def label_indices(manifest: Manifest, names: Sequence[str]) -> np.ndarray:
    """Columns of the named labels among the manifest's."""
    order = [target.name for target in manifest.labels.targets]
    return np.array([order.index(name) for name in names], dtype=np.int64)
