"""Files that nobody has looked at yet: decoded once, for the inventory and for all their views."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mvp.data.inputs import ImageInputs
from mvp.data.loading import prepare_instances
from mvp.data.reading.decoding import Decoded
from mvp.data.reading.inventory import FileRecord
from mvp.data.transforms import Transform
from mvp.errors import ImageError
from mvp.pipeline.project import MANY_FILES, Project
from mvp.pipeline.sharding import Shard
from mvp.stages.extract import Extraction

# Prepared images that may wait for their networks; larger ones are decoded a second time.
_BUDGET_BYTES = 1 << 30
# Of one segment: many at a time make few segments, and an interruption costs their decoding.
_MOST_UNITS = 16
# A volume of more slices is decoded a second time.
_MOST_INSTANCES = 64
# By preparation, the instances of one file.
_Prepared = dict[str, list[Tensor | ImageError]]


@dataclass(frozen=True, eq=False)
class Running:
    """One view's extraction while it stands open, and the files of the images that it wants."""

    extraction: Extraction
    files: frozenset[str]

    @property
    def preparation(self) -> Transform | None:
        """How its images are prepared; None of texts."""
        inputs = self.extraction.inputs
        return inputs.preparation if isinstance(inputs, ImageInputs) else None


def take_new_files(
    project: Project, running: Sequence[Running], *, root: Path | None, shard: Shard
) -> dict[str, FileRecord]:
    """Look at every file that the inventory does not know, and extract it from that same decode.

    What cannot be done so (a volume of very many slices, a unit that another process computes) is
    left for the ordinary way, which comes after.

    Args:
        project: the workspace.
        running: views that look at the same files, open.
        root: where relative paths start, if not at data.root.
        shard: which part of the images.

    Returns:
        The records of those files that cannot be used: to look again would cost as much again,
        and of a file that hangs all of data.max_seconds.
    """
    transforms = {t.digest: t for t in (one.preparation for one in running) if t is not None}
    files = list(dict.fromkeys(file for one in running for file in sorted(one.files)))
    if not transforms or not files:
        return {}
    room = _BUDGET_BYTES // sum(
        4 * t.channels * t.config.size * t.config.size for t in transforms.values()
    )
    unit = project.config.extract.unit_rows
    if room < min(unit, len(files)):
        return {}  # a unit of images so large does not fit: many small segments otherwise
    known = project.inventory.known(files)
    new = [file for file in files if file not in known]
    del known  # of very many files it is large, and what follows takes long

    def prepare(decoded: Decoded) -> _Prepared:
        return {
            digest: prepare_instances(decoded, decoded.numbers, transform, "")
            for digest, transform in transforms.items()
        }

    limits = project.limits(root)
    # Where the network has processors of its own, the others decode the next unit meanwhile.
    ahead = 2 * project.workers if project.device.type == "cpu" else min(unit, room)
    many = unit * max(1, min(room // unit, _MOST_UNITS))
    # Of few large files there is room for all, though not for all slices of volumes.
    most = min(_MOST_INSTANCES, room // project.workers) if room >= unit else 1
    found = project.inventory.stream(
        new,
        limits,
        workers=project.workers,
        ahead=ahead,
        prepare=prepare,
        most=max(1, most),
        progress=project.progress and len(new) > MANY_FILES,
    )
    unusable: dict[str, FileRecord] = {}
    chunk: list[tuple[FileRecord, _Prepared]] = []
    waiting, before = 0, time.perf_counter()
    with closing(found):
        for record, prepared in found:
            if record.error:
                unusable[record.file] = record
            if prepared is None or not record.pixels or not shard.has(record, record.file):
                continue
            chunk.append((record, prepared))
            waiting += record.instances
            if waiting >= many:
                _note_waiting(running, time.perf_counter() - before)
                _extract(running, chunk)
                chunk, waiting, before = [], 0, time.perf_counter()
    _note_waiting(running, time.perf_counter() - before)
    _extract(running, chunk)
    return unusable


def _extract(running: Sequence[Running], chunk: Sequence[tuple[FileRecord, _Prepared]]) -> None:
    for one in running:
        own = [(r, p) for r, p in chunk if r.file in one.files]
        if own and one.preparation is not None:
            digest = one.preparation.digest
            one.extraction.add(
                [record for record, _ in own],
                ready={record.digest: prepared[digest] for record, prepared in own},
                wait=False,
            )


def _note_waiting(running: Sequence[Running], seconds: float) -> None:
    """The time that several views waited for the same files is shared among them."""
    for one in running:
        one.extraction.result.seconds["decode"] += seconds / len(running)
        one.extraction.result.seconds["total"] += seconds / len(running)
