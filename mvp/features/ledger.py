"""What a segment promises of each of its units, and what the promise is kept as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LedgerEntry:
    """What is promised of one unit.

    Attributes:
        unit: its number.
        length: bytes of the stored object.
        digest: digest of the stored object.
        rejected: row (within the unit) to reason, for rows that hold no features.
    """

    unit: int
    length: int
    digest: str
    rejected: Mapping[int, str]

    def to_json(self) -> dict[str, Any]:
        """The entry as it is stored."""
        return {
            "unit": self.unit,
            "length": self.length,
            "digest": self.digest,
            "rejected": {str(row): reason for row, reason in sorted(self.rejected.items())},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> LedgerEntry:
        """The entry that `to_json` wrote."""
        rejected = {int(row): str(reason) for row, reason in value["rejected"].items()}
        return cls(int(value["unit"]), int(value["length"]), str(value["digest"]), rejected)
