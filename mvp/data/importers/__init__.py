"""From the tables of public data sets to one manifest and the settings that fit it."""

from mvp.data.importers.base import Draft, ImportRequest, LabelDraft, ViewDraft
from mvp.data.importers.kinds import KINDS, Kind, read_draft

__all__ = ["KINDS", "Draft", "ImportRequest", "Kind", "LabelDraft", "ViewDraft", "read_draft"]
