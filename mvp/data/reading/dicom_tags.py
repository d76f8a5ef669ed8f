"""Single facts of a DICOM header that are no patient's name, id or date."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mvp.data.reading.dicom_syntax import has_preamble, opened, read_elements
from mvp.data.reading.limits import Limits
from mvp.errors import MissingExtraError

_DEFAULT_LIMITS = Limits()
BurnedIn = Literal["yes", "no", "unsaid"]


def burned_in(file: str | Path, limits: Limits = _DEFAULT_LIMITS) -> BurnedIn:
    """Whether a DICOM file says that names or numbers are part of its picture.

    Args:
        file: any file; of one that is not DICOM, or cannot be read, nothing is said.
        limits: what a deflated file may cost, and whether it is inflated.

    Returns:
        What BurnedInAnnotation (0028,0301) says.

    Raises:
        MissingExtraError: it is DICOM, and pydicom is not installed.
    """
    path = Path(file)
    try:
        if not (path.name.lower().endswith((".dcm", ".dicom")) or has_preamble(path)):
            return "unsaid"
        with opened(path, limits) as (stream, syntax):
            header = read_elements(stream, ["BurnedInAnnotation"], syntax)
            said = str(header.get("BurnedInAnnotation") or "").strip().upper()
    except MissingExtraError:
        raise
    except Exception:  # noqa: BLE001 - what cannot be read says nothing; reading it says why
        return "unsaid"
    return "yes" if said == "YES" else "no" if said == "NO" else "unsaid"
