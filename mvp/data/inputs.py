"""What a view's network is shown: images of files, or texts, prepared ahead in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from mvp.config import ResolvedView
from mvp.data.ahead import work_ahead
from mvp.data.loading import Request, load_instances
from mvp.data.reading.readers import Limits
from mvp.data.reading.texts import read_text
from mvp.data.text_preparation import TextPreparation
from mvp.data.transforms import Transform
from mvp.errors import ImageError
from mvp.files import digest_file

SYNTHETIC = 2
_SYNTHETIC_TEXTS = ("No focal consolidation. Heart size normal.", "Éa 1.2 cm, Ωmega?")


class Inputs(Protocol):
    """The inputs of one view; nothing random can be built from it."""

    @property
    def preparation(self) -> Transform | TextPreparation:
        """The deterministic way to the network's input; its digest is part of the key."""
        ...

    def load(
        self, requests: Iterable[Request], workers: int, ahead: int
    ) -> Iterator[Tensor | ImageError]:
        """Every requested instance, prepared, in order; see `mvp.data.loading.load_instances`."""
        ...

    def synthetic(self) -> list[Tensor]:
        """Prepared inputs that no patient ever had."""
        ...


@dataclass(frozen=True)
class ImageInputs:
    """Images and slices of files."""

    preparation: Transform
    limits: Limits = field(default_factory=Limits)

    def load(
        self, requests: Iterable[Request], workers: int, ahead: int
    ) -> Iterator[Tensor | ImageError]:
        """(channels, size, size) float32 in [0, 1] for every requested instance."""
        return load_instances(requests, self.preparation, self.limits, workers, ahead)

    def synthetic(self) -> list[Tensor]:
        """Waves, of another size than any network's, so that resizing shows too."""
        y, x = np.mgrid[0:97, 0:131].astype(np.float64)
        waves = [
            np.sin(x / (7 + i)) * np.cos(y / (11 + i)) + 0.3 * np.sin((x + y) / 3)
            for i in range(SYNTHETIC)
        ]
        images = [np.clip(127 + 90 * w, 0, 255).astype(np.uint8) for w in waves]
        return [self.preparation.prepare(pixels) for pixels in images]


@dataclass(frozen=True)
class TextInputs:
    """Texts of cells and of files.

    Attributes:
        preparation: characters to numbers.
        limits: what one file may cost.
        cells: digest to text, of those texts that stand in the table; a request for one names no
            file.
    """

    preparation: TextPreparation
    limits: Limits = field(default_factory=Limits)
    cells: Mapping[str, str] = field(default_factory=dict)

    def load(
        self, requests: Iterable[Request], workers: int, ahead: int
    ) -> Iterator[Tensor | ImageError]:
        """(length + 2,) int64 for every requested text."""

        def one(request: Request) -> list[Tensor | ImageError]:
            try:
                return [self.preparation.prepare(self._text(request))]
            except ImageError as error:
                error.path = error.path or request.file
                return [error]

        return work_ahead(one, requests, lambda _: 1, workers, ahead)

    def synthetic(self) -> list[Tensor]:
        """Made-up sentences."""
        return [self.preparation.prepare(text) for text in _SYNTHETIC_TEXTS[:SYNTHETIC]]

    def _text(self, request: Request) -> str:
        if not request.file:
            return self.cells[str(request.digest)]
        text = read_text(Path(request.file), self.limits)
        if request.digest is not None and digest_file(Path(request.file)) != request.digest:
            raise ImageError("the file changed while it was being read", remedy="run it again")
        return text


@dataclass(frozen=True)
class ReadyInputs:
    """Inputs of which some are prepared already.

    Attributes:
        inputs: the others are read from these.
        ready: digest of a file's bytes to all of its instances, each prepared or its error.
    """

    inputs: Inputs
    ready: Mapping[str, Sequence[Tensor | ImageError]]

    @property
    def preparation(self) -> Transform | TextPreparation:
        """How all of them are prepared."""
        return self.inputs.preparation

    def load(
        self, requests: Iterable[Request], workers: int, ahead: int
    ) -> Iterator[Tensor | ImageError]:
        """Every requested instance, prepared, in order."""

        def one(request: Request) -> list[Tensor | ImageError]:
            there = self.ready.get(str(request.digest))
            if there is None:
                return list(self.inputs.load([request], 1, len(request.instances)))
            return [there[number] for number in request.instances]

        return work_ahead(one, requests, lambda request: len(request.instances), workers, ahead)

    def synthetic(self) -> list[Tensor]:
        """Prepared inputs that no patient ever had."""
        return self.inputs.synthetic()


def preparation_of(view: ResolvedView) -> Transform | TextPreparation:
    """How a view's inputs are prepared, by its settings."""
    return TextPreparation(view.text) if view.kind == "text" else Transform(view.transform)


def inputs_of(view: ResolvedView, limits: Limits, cells: Mapping[str, str]) -> Inputs:
    """What a view's network is shown.

    Args:
        view: its settings.
        limits: what one file may cost.
        cells: for texts of the table, digest to text.
    """
    if view.kind == "text":
        return TextInputs(TextPreparation(view.text), limits, cells)
    return ImageInputs(Transform(view.transform), limits)
