"""What we were given: tables, manifest, splits, readers, inventory, transforms, batches."""

from mvp.data.manifest import Manifest, Problem, load_manifest
from mvp.data.splits import PARTS, Split, make_split

__all__ = ["PARTS", "Manifest", "Problem", "Split", "load_manifest", "make_split"]
