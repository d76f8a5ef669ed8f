"""An empty segment on disk: its row ids, its array and what made it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from mvp.files import write_bytes, write_json


def make_segment(
    folder: Path,
    ids: NDArray[np.uint8],
    plan_digest: str,
    width: int,
    dtype: str,
    unit_rows: int,
    surroundings: Mapping[str, Any],
) -> None:
    """Fill a new folder as `mvp.features.segment` draws it; `segment.json` comes last."""
    (folder / "ledger").mkdir(parents=True)
    unit_rows = min(unit_rows, len(ids))
    zarr.create_array(
        str(folder / "features"),
        shape=(len(ids), width),
        chunks=(unit_rows, width),
        dtype=dtype,
        fill_value=float("nan"),
        filters=None,
        # Uncompressed: reads are as fast as memory; the checksum finds every flipped bit.
        compressors=[Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    buffer = io.BytesIO()
    np.save(buffer, ids, allow_pickle=False)
    write_bytes(folder / "plan.npy", buffer.getvalue())
    write_json(
        folder / "segment.json",
        {
            "plan": plan_digest,
            "rows": len(ids),
            "width": width,
            "dtype": dtype,
            "unit_rows": unit_rows,
            "surroundings": dict(surroundings),
        },
    )
