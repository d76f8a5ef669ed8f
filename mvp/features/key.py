"""FeatureKey: everything that decides the numbers. Features of two keys never meet."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from mvp.files import digest_json

FORMAT_VERSION = 2

_MEANING = {
    "view": "the view",
    "weights": "the network's weights",
    "architecture": "the network",
    "layer": "the layer that is captured",
    "pooling": "the pooling of the layer",
    "instances": "what a row is of several slices",
    "transform": "the preparation of the images",
    "precision": "the precision of the computation",
    "dtype": "the type that is stored",
    "engine": "the engine that runs the network",
    "version": "the format of the store",
}

_COLUMNS = "the imported columns, or what they were made by"


@dataclass(frozen=True)
class FeatureKey:
    """Names one kind of feature.

    Attributes:
        view: the view's name.
        weights: digest of the weights that the features depend on.
        architecture: the network's name.
        layer: the captured layers, as `Capture` resolves them.
        pooling: how a map became a row.
        transform: digest of the deterministic preparation.
        instances: `keep` (a row per slice), or how the slices of a file became one row.
        precision: type that the network computes in.
        dtype: type that is stored.
        engine: what ran the network.
        version: format of the store.
    """

    view: str
    weights: str
    architecture: str
    layer: str
    pooling: str
    transform: str
    instances: str = "keep"
    precision: str = "float32"
    dtype: str = "float32"
    engine: str = "torch"
    version: int = FORMAT_VERSION

    @property
    def digest(self) -> str:
        """Digest of all fields; the key's folder name."""
        return digest_json(asdict(self))

    @property
    def imported(self) -> bool:
        """Whether the features came from a table, and no network can make them again."""
        return self.engine == "import"

    @property
    def computed(self) -> bool:
        """Whether a network gives the features: of synthetic inputs too, so machines can agree."""
        return self.engine not in ("import", "encoder")

    def to_json(self) -> dict[str, Any]:
        """The fields, for `key.json` and provenance."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FeatureKey:
        """The key that `to_json` wrote; ValueError for one of another version of the store."""
        if set(value) != {f.name for f in fields(cls)}:
            raise ValueError(f"it was made by another version of the store than {FORMAT_VERSION}")
        return cls(**{f.name: value[f.name] for f in fields(cls)})

    def differences(self, other: FeatureKey) -> list[str]:
        """What differs, in words: `the network's weights (old → new)`."""
        meaning = (
            {**_MEANING, "weights": _COLUMNS} if self.imported and other.imported else _MEANING
        )
        return [
            f"{meaning[f.name]} ({_short(getattr(self, f.name))} → "
            f"{_short(getattr(other, f.name))})"
            for f in fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        ]


def _short(value: object) -> str:
    text = str(value)
    return text[:10] if len(text) == 32 and text.isalnum() else text
