"""What a file's place and name say: a regular expression, or a template with names in braces."""

from __future__ import annotations

import re

from mvp.config import nearest
from mvp.data.reading.readers import SUFFIXES
from mvp.errors import ConfigError

FIELDS = ("study", "view", "patient", "label", "laterality", "order", "split")
DEFAULT = "{label}/{study}_{view}"
_FIELD = re.compile(r"\{([^{}]*)\}")
_REMEDY = "write it like '{label}/{study}_{view}', or as a regular expression with (?P<study>...)"


def compile_pattern(text: str) -> re.Pattern[str]:
    """The expression that a path under the folder, its suffix included, must match in full.

    Args:
        text: a regular expression with named groups, or a template: every field in braces is one
            or more characters but "/", as many as there can be from left to right; a field that
            stands again must say the same again; `*` is anything but "/". A template without a
            suffix takes every image's.

    Raises:
        ConfigError: no expression, no study, or a name that means nothing.
    """
    expression = text if "(?P<" in text else _from_template(text)
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ConfigError(
            f"the pattern {text!r} is no regular expression", cause=str(error), remedy=_REMEDY
        ) from None
    for name in pattern.groupindex:
        if name not in FIELDS:
            raise ConfigError(
                f"the pattern names {name!r}" + nearest(name, FIELDS),
                cause=f"it may name {', '.join(FIELDS)}",
                remedy=_REMEDY,
            )
    if "study" not in pattern.groupindex:
        raise ConfigError(f"the pattern {text!r} names no study", remedy=_REMEDY)
    return pattern


def _from_template(text: str) -> str:
    seen: set[str] = set()
    parts, end = [], 0
    for match in _FIELD.finditer(text):
        parts.append(_literal(text[end : match.start()]))
        name, end = match[1], match.end()
        if name not in FIELDS:
            raise ConfigError(
                f"the pattern names {name!r}" + nearest(name, FIELDS),
                cause=f"it may name {', '.join(FIELDS)}",
                remedy=_REMEDY,
            )
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)")
        seen.add(name)
    parts.append(_literal(text[end:]))
    if not text.lower().endswith((*SUFFIXES, ".gz")):
        # The longer suffix first: .nii.gz is not .gz.
        endings = "|".join(re.escape(s) for s in sorted(SUFFIXES, key=len, reverse=True))
        parts.append(f"(?i:{endings})")
    return "".join(parts)


def _literal(text: str) -> str:
    return "[^/]*".join(re.escape(piece) for piece in text.split("*"))
