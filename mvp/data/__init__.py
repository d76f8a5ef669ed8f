"""What we were given: tables, manifest, splits, readers, inventory, transforms, batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvp.data.splits.split import PARTS, Split, make_split
    from mvp.data.tables.manifest import Manifest, Problem, load_manifest

__all__ = ["PARTS", "Manifest", "Problem", "Split", "load_manifest", "make_split"]


def __getattr__(name: str) -> Any:
    # Late: a decoder process starts in this room, and needs the readers alone.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mvp.data.splits import split as splits
    from mvp.data.tables import manifest

    return getattr(manifest if hasattr(manifest, name) else splits, name)
