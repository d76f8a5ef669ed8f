"""The published tables that an installed package carries; read where they lie, never copied."""

from pathlib import Path

import pandas as pd
import pytest


def published(name):
    """The path of a table in torchxrayvision's data folder."""
    package = pytest.importorskip("torchxrayvision")
    return Path(package.__file__).parent / "data" / name


def as_text(path):
    """A table as pandas reads it, every cell text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def known(checked, label):
    """(positive, negative) studies of a label, as `mvp check` says."""
    every = checked["labels"][label]["all"]
    return every["positive"], every["negative"]
